//! Counters that a server publishes itself, as Prometheus reads them: `GET /metrics` of its admin port.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::failure::Failure;
use crate::wire::handshake::head_length;
use crate::wire::url::Url;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest page that is read.
const PAGE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What counters stand at, each summed over its labels.
///
/// # Errors
/// `Unavailable` if there is no such page, or no such counter on it.
pub fn read(admin: &Url, names: &[String]) -> Result<Vec<f64>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |cause: String| Failure::Unavailable(format!("http://{}/metrics: {cause}", admin.host));
    let page = fetch(admin).map_err(|error| failed(error.to_string()))?;
    if !page.starts_with("HTTP/1.1 200 ") {
        return Err(failed(format!("'{}'", page.lines().next().unwrap_or_default().escape_debug())));
    }
    let of = |name: &String| sum(&page, name).ok_or_else(|| failed(format!("there is no counter '{name}'")));
    names.iter().map(of).collect()
}

fn fetch(admin: &Url) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin.address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", admin.host);
    stream.write_all(request.as_bytes())?;
    let mut page = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut page)?;
    if head_length(&page).is_none() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no whole answer"));
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn sum(page: &str, name: &str) -> Option<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with(['{', ' ']);
        is_it.then(|| rest.rsplit(' ').next()?.trim_end().parse::<f64>().ok()).flatten()
    };
    page.lines().filter_map(value).fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# HELP t_total x\nt_total{shard=\"0\"} 3\nt_total{shard=\"1\"} 4\nt_totals 9\nu 1\n";
        assert_eq!([sum(page, "t_total"), sum(page, "u"), sum(page, "t")], [Some(7.0), Some(1.0), None]);
    }
}
