//! The admin API as `curl` would use it: one request a connection, replies read back, metrics looked up by name.

use super::http::Response;
use super::raw::{RawClient, RawOptions};
use super::wait::PATIENCE;
use std::net::SocketAddr;

/// The admin listener of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    address: SocketAddr,
}

impl Admin {
    /// The admin API at `address`.
    pub fn new(address: SocketAddr) -> Admin {
        Admin { address }
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// `POST path` with a body and, unless empty, its media type.
    #[track_caller]
    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Response {
        let header = format!("Content-Type: {content_type}");
        let headers: &[&str] = if content_type.is_empty() { &[] } else { &[&header] };
        self.request("POST", path, headers, body)
    }

    /// Any request, with `headers` as whole lines.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Response {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for line in headers {
            request.push_str(line);
            request.push_str("\r\n");
        }
        if !body.is_empty() || method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut client = RawClient::connect(self.address, RawOptions::default());
        client.send(&[request.as_bytes(), body].concat());
        client.read_until(&format!("answer to {method} {path}"), PATIENCE, Response::parse)
    }

    /// Publishes `text` on `channel`.
    ///
    /// # Panics
    /// With the reply if it is not 200.
    #[track_caller]
    pub fn publish(&self, channel: &str, text: &str) -> Response {
        let reply = self.post(&format!("/publish/{channel}"), "", text.as_bytes());
        assert_eq!(reply.status, 200, "publish on {channel}: {reply:?}");
        reply
    }

    /// The sum of a metric over all its label sets, from `/metrics`.
    ///
    /// # Panics
    /// If there is no such metric; a family without samples is 0.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        self.metric_with(name, &[])
    }

    /// The sum over those samples of a metric that carry all of `labels`.
    #[track_caller]
    pub fn metric_with(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200, "/metrics: {reply:?}");
        let text = reply.text();
        sum(&text, name, labels).unwrap_or_else(|| panic!("no metric `{name}` among\n{text}"))
    }
}

/// The sum of the samples of `name` in Prometheus text that carry `labels`; none if the family is unknown.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let family = name.strip_suffix("_total").unwrap_or(name);
    let (mut total, mut known) = (0.0, false);
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let declared = declared.split(' ').next().unwrap_or_default();
            known |= declared == name || declared == family;
            continue;
        }
        let Some((series, value)) = sample(line) else { continue };
        let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
        if series_name != name {
            continue;
        }
        known = true;
        if labels.iter().all(|(label, value)| carries(series_labels, label, value)) {
            total += value.parse::<f64>().expect("a number");
        }
    }
    known.then_some(total)
}

/// Series and value of a sample line; label values may hold spaces.
fn sample(line: &str) -> Option<(&str, &str)> {
    if line.starts_with('#') || line.is_empty() {
        return None;
    }
    let cut = line.rfind('}').map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
    Some((line[..cut].trim_end_matches('}'), line[cut..].split_whitespace().next()?))
}

fn carries(series_labels: &str, label: &str, value: &str) -> bool {
    let wanted = format!("{label}=\"{value}\"");
    series_labels.split("\",").any(|part| part.trim_end_matches('"') == wanted.trim_end_matches('"'))
}

#[test]
fn metrics_are_summed_over_the_label_sets_that_match() {
    let text = "# TYPE t_closed counter\nt_closed_total{reason=\"eof\",code=\"none\"} 3\n\
                t_closed_total{reason=\"normal\",code=\"1000\"} 4\n# TYPE t_empty counter\nt_now 1.5\n# EOF\n";
    assert_eq!(sum(text, "t_closed_total", &[]), Some(7.0));
    assert_eq!(sum(text, "t_closed_total", &[("reason", "eof")]), Some(3.0));
    assert_eq!(sum(text, "t_closed_total", &[("code", "1000"), ("reason", "normal")]), Some(4.0));
    assert_eq!(sum(text, "t_empty_total", &[]), Some(0.0));
    assert_eq!(sum(text, "t_now", &[]), Some(1.5));
    assert_eq!(sum(text, "t_gone", &[]), None);
}
