//! What the figures of a run hang on besides the server: machine, kernel and its settings, tool, date.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sys;

/// Settings of the kernel that bound or shape many connections.
const SYSCTLS: [&str; 10] = [
    "net.core.somaxconn",
    "net.core.netdev_max_backlog",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_mem",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "fs.file-max",
    "fs.nr_open",
];
/// What stands for a value that cannot be read.
const UNKNOWN: &str = "unknown";

/// The start of a run, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The time of day.
    pub time: SystemTime,
    /// The same moment by `sys::monotonic_ns`.
    pub monotonic_ns: u64,
}

impl Default for Start {
    fn default() -> Self {
        Self { time: SystemTime::now(), monotonic_ns: sys::monotonic_ns() }
    }
}

impl Start {
    /// Date and time in UTC, such as `2025-03-01T12:00:00Z`.
    pub fn date(&self) -> String {
        // Before 1970 and after 9999 the clock is wrong, and the date says 1970.
        let seconds = self.time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let seconds = if seconds < 253_402_300_800 { seconds } else { 0 };
        jiff::Timestamp::from_second(seconds as i64).unwrap_or_default().to_string()
    }
}

/// Facts about the machine: name and value, in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Fingerprint(pub Vec<(&'static str, String)>);

impl Fingerprint {
    /// Reads it from `/proc` and `/sys`; what is not there is "unknown".
    pub fn take(start: &Start) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let allowed = sys::cores_allowed().map_or_else(|_| UNKNOWN.into(), |cores| cores.len().to_string());
        let mut facts = vec![
            ("date", start.date()),
            ("tidegate-loadtest", env!("CARGO_PKG_VERSION").to_owned()),
            ("kernel", kernel()),
            ("cpu", field(&cpuinfo, "model name").unwrap_or_else(|| UNKNOWN.into())),
            ("cpus", format!("{cores}, {allowed} of them for this tool")),
            ("memory", field(&meminfo, "MemTotal").map_or_else(|| UNKNOWN.into(), |total| in_gib(&total))),
            ("virtualisation", virtualisation(&cpuinfo)),
            ("descriptor limit", descriptor_limit(&limits)),
        ];
        facts.extend(SYSCTLS.map(|name| (name, sysctl(name))));
        Self(facts)
    }
}

fn read_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn kernel() -> String {
    let (name, release) = (read_line("/proc/sys/kernel/ostype"), read_line("/proc/sys/kernel/osrelease"));
    format!("{} {}", name.as_deref().unwrap_or(UNKNOWN), release.as_deref().unwrap_or(UNKNOWN))
}

/// The first `name : value` of a file in `/proc`.
fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?.trim_start().strip_prefix(':')?;
    Some(value.trim().to_owned())
}

/// `24576000 kB` in GiB.
fn in_gib(text: &str) -> String {
    let kib: Option<f64> = text.split_whitespace().next().and_then(|number| number.parse().ok());
    kib.map_or_else(|| UNKNOWN.into(), |kib| format!("{:.1} GiB", kib / 1024.0 / 1024.0))
}

/// What the firmware calls itself, if the processor says that it is a guest.
fn virtualisation(cpuinfo: &str) -> String {
    let is_guest =
        field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let by_name = ["/sys/hypervisor/type", "/sys/class/dmi/id/product_name", "/sys/class/dmi/id/sys_vendor"];
    match (is_guest, by_name.iter().find_map(|path| read_line(path))) {
        (true, Some(name)) => format!("guest of {name}"),
        (true, None) => "guest of an unnamed hypervisor".to_owned(),
        (false, Some(name)) => format!("none seen ({name})"),
        (false, None) => UNKNOWN.to_owned(),
    }
}

fn descriptor_limit(limits: &str) -> String {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut words = line.unwrap_or_default().split_whitespace();
    match (words.next(), words.next()) {
        (Some(soft), Some(hard)) => format!("{soft} (at most {hard}) for each descriptor table"),
        _ => UNKNOWN.to_owned(),
    }
}

/// The value of a setting, its parts divided by single blanks.
fn sysctl(name: &str) -> String {
    let value = read_line(&format!("/proc/sys/{}", name.replace('.', "/")));
    value.map_or_else(|| UNKNOWN.into(), |value| value.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn this_machine_has_a_fingerprint() {
        let facts = Fingerprint::take(&Start::default()).0;
        let value =
            |name| facts.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str()).unwrap();
        assert!(value("kernel").starts_with("Linux "), "{facts:?}");
        assert_eq!(value("net.ipv4.tcp_rmem").split(' ').count(), 3, "{facts:?}");
        assert!(value("memory").ends_with("GiB") && value("fs.nr_open").parse::<u64>().is_ok(), "{facts:?}");
        assert!(value("date").ends_with('Z'));
    }

    #[test]
    fn a_date_is_in_utc_and_a_wild_clock_is_no_panic() {
        let start = |seconds| Start { time: UNIX_EPOCH + Duration::from_secs(seconds), monotonic_ns: 0 };
        assert_eq!(start(951_782_400).date(), "2000-02-29T00:00:00Z");
        assert_eq!(start(400_000_000_000).date(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn fields_of_proc_are_found_by_their_whole_name() {
        assert_eq!(field("model\t: 1\nmodel name\t: Zen\n", "model name").as_deref(), Some("Zen"));
        assert_eq!(in_gib("2097152 kB"), "2.0 GiB");
    }
}
