//! The memory budget of the whole process against the real binary (C7): readers that do not read, publishers that do not
//! stop, and far more to keep than there is room for.

use crate::kit::Standing;
use crate::support::{Gateway, Oracles, PATIENCE, RawClient, RawOptions, WebSocketClient, pause, wait_until};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MIB: u64 = 1024 * 1024;
/// A receive window of a few kilobytes.
const TINY: RawOptions = RawOptions { receive_buffer: Some(4096), source: None };
const MESSAGE_BYTES: usize = 16 * 1024;
/// What the process holds beyond what it accounts for: code, stacks, the allocator's and the kernel's rounding, requests
/// under way on the admin port.
const BASE_BYTES: u64 = 24 * MIB;

/// One reader a channel that takes nothing, on channels `c0`, `c1` and so on.
fn stall(gateway: &Gateway, count: usize) -> Vec<WebSocketClient> {
    (0..count)
        .map(|index| WebSocketClient::join_with(gateway.clients, &format!("/ws/c{index}"), TINY, &[]))
        .collect()
}

/// Publishers that go round the channels as fast as they can until they are stopped.
struct Publishers {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Publishers {
    fn start(gateway: &Gateway, count: usize, channels: usize) -> Publishers {
        let (stop, accepted, refused) = Default::default();
        let mut publishers = Publishers { stop, accepted, refused, threads: Vec::new() };
        let body = vec![b'x'; MESSAGE_BYTES];
        for first in 0..count {
            let address = gateway.admin;
            let (stop, accepted, refused) = (
                Arc::clone(&publishers.stop),
                Arc::clone(&publishers.accepted),
                Arc::clone(&publishers.refused),
            );
            let body = body.clone();
            publishers.threads.push(std::thread::spawn(move || {
                let mut standing = Standing::connect(address);
                let mut channel = first;
                while !stop.load(Ordering::Relaxed) {
                    standing.send_post(&format!("/publish/c{}", channel % channels), "text/plain", &body);
                    channel += 1;
                    let reply = standing.response();
                    if reply.status == 200 {
                        accepted.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    assert_eq!(reply.status, 503, "{reply:?}");
                    assert_eq!(reply.json()["error"], "memory");
                    assert!(reply.header("retry-after").is_some());
                    refused.fetch_add(1, Ordering::Relaxed);
                    pause(Duration::from_millis(5));
                }
            }));
        }
        publishers
    }

    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a publisher"));
        (self.accepted.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

/// Status and body of a client that asks to join.
fn ask_to_join(gateway: &Gateway) -> (u16, String, Option<String>) {
    let mut client = RawClient::connect(gateway.clients, RawOptions::default());
    let request = crate::support::http::upgrade_request("/ws/late", &gateway.clients.to_string(), &[]);
    client.send(&request);
    let response = client.response();
    (response.status, response.text(), response.header("retry-after").map(str::to_owned))
}

#[test]
fn c7_stalled_readers_and_publishers_at_full_speed_stay_within_the_budget() {
    const BUDGET: u64 = 64 * MIB;
    const CHANNELS: usize = 150;
    let mut gateway = Gateway::start(&["--memory", "64MiB", "--max-lag-age", "1m", "--user-timeout", "0"]);
    let printed = gateway.printed().join("\n");
    assert!(printed.contains("memory    64MiB (as configured)"), "{printed}");
    let oracles = Oracles::before(&gateway).allow_unready().allow_refusals();
    let mut standing = Standing::open(&gateway);
    let start = gateway.resident_bytes();
    let accounted_before = standing.metric("tidegate_memory_accounted_bytes", &[]);
    let stalled = stall(&gateway, CHANNELS);

    let publishers = Publishers::start(&gateway, 4, CHANNELS);
    let (mut resident_max, mut accounted_max, mut unready, mut turned_away) = (0, 0.0_f64, 0, 0);
    let end = Instant::now() + PATIENCE * 6;
    // Every grade has been there, and somebody was closed for it.
    while standing.metric("tidegate_memory_shed_total", &[]) < 10.0
        || standing.metric("tidegate_memory_grades_entered_total", &["refusing"]) < 1.0
        || turned_away == 0
    {
        assert!(Instant::now() < end, "{}", standing.get("/metrics").text());
        resident_max = resident_max.max(gateway.resident_bytes());
        accounted_max = accounted_max.max(standing.metric("tidegate_memory_accounted_bytes", &[]));
        if standing.metric("tidegate_memory_grade", &[]) >= 2.0 {
            unready += usize::from(standing.get("/readyz").status == 503);
            let (status, body, retry_after) = ask_to_join(&gateway);
            if status == 503 {
                assert!(body.starts_with("memory:"), "{body}");
                assert!(retry_after.is_some());
                turned_away += 1;
            }
        }
    }
    let (accepted, refused) = publishers.stop();

    assert!(
        accepted > 0 && refused > 0 && unready > 0,
        "{accepted} and {refused} publishes, {unready} times"
    );
    assert!(accounted_max <= BUDGET as f64 * 1.1, "{accounted_max}");
    assert!(resident_max <= BUDGET + BUDGET / 10 + BASE_BYTES, "{resident_max} bytes, {start} at the start");
    wait_until("who was shed to be closed", PATIENCE * 3, || {
        let shed = standing.metric("tidegate_memory_shed_total", &[]);
        standing.closed("slow_consumer") == shed
    });
    let log = gateway.log();
    for word in ["memory_grade_entered", "to=\"refusing\""] {
        assert!(log.contains(word), "{word} is not in\n{log}");
    }

    drop(stalled);
    standing.wait_metric("tidegate_memory_grade", &[], |grade| grade == 0.0);
    standing.wait_metric("tidegate_memory_accounted_bytes", &[], |bytes| bytes <= accounted_before + 1e6);
    assert_eq!(standing.get("/readyz").status, 200);
    assert_eq!(ask_to_join(&gateway).0, 101);
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn c7_what_is_accounted_for_is_nearly_all_that_resident_memory_grows_by() {
    const CHANNELS: usize = 40;
    let mut gateway = Gateway::start(&["--max-lag-age", "1m", "--user-timeout", "0"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let stalled = stall(&gateway, CHANNELS);
    let (resident, accounted) =
        (gateway.resident_bytes(), standing.metric("tidegate_memory_accounted_bytes", &[]));
    // Three kinds of message: packed into segments, and as they came; none of them takes a reader beyond its limit.
    for (bytes, rounds) in [(300, 200), (3000, 100), (16_000, 35)] {
        let body = vec![b'x'; bytes];
        for _ in 0..rounds {
            for channel in 0..CHANNELS {
                standing.publish_as(&format!("c{channel}"), "text/plain", &body);
            }
        }
    }
    assert_eq!(standing.metric("tidegate_connections_lagging", &[]), CHANNELS as f64);
    let grown = gateway.resident_bytes() - resident;
    let accounted = standing.metric("tidegate_memory_accounted_bytes", &[]) - accounted;
    assert!(grown > 20 * MIB, "{grown}");
    assert!(accounted >= 0.8 * grown as f64, "{accounted} of {grown}");
    assert!(accounted <= 1.25 * grown as f64, "{accounted} of {grown}");
    drop((stalled, standing));
    wait_until("the journals to be let go of", Duration::from_secs(10), || {
        gateway.metric("tidegate_journal_bytes") < 1e6
    });
    oracles.check(&mut gateway);
}

/// A folder that limits the memory of whoever is put into it; removed when dropped.
struct ControlGroup(PathBuf);

impl ControlGroup {
    /// None, and a plain message, where this machine does not let the test make one.
    fn limited_to(bytes: u64) -> Option<ControlGroup> {
        let top = Path::new("/sys/fs/cgroup");
        let controllers = std::fs::read_to_string(top.join("cgroup.subtree_control")).unwrap_or_default();
        if !controllers.split_whitespace().any(|name| name == "memory") {
            println!("skipped: no control groups of version 2 with memory at {}", top.display());
            return None;
        }
        let folder = top.join(format!("tidegate-test-{}", std::process::id()));
        if let Err(error) = std::fs::create_dir(&folder) {
            println!("skipped: {} cannot be made: {error}", folder.display());
            return None;
        }
        let group = ControlGroup(folder);
        std::fs::write(group.0.join("memory.max"), bytes.to_string()).expect("a group of our own");
        Some(group)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A group of so many bytes, and options under which readers stay although they take nothing.
const GROUP_BYTES: u64 = 128 * MIB;
const PATIENT: [&str; 4] = ["--max-lag-age", "1m", "--user-timeout", "0"];

/// Looks that `gateway` has found its limit, and fills it until it has shed ten and refused some.
fn fill(gateway: &mut Gateway) {
    const CHANNELS: usize = 150;
    let printed = gateway.printed().join("\n");
    assert!(printed.contains("memory    96MiB (auto: 75% of the control group's limit)"), "{printed}");
    let oracles = Oracles::before(gateway).allow_unready().allow_refusals();
    let mut standing = Standing::open(gateway);
    let stalled = stall(gateway, CHANNELS);
    let publishers = Publishers::start(gateway, 4, CHANNELS);
    standing.wait_metric("tidegate_memory_shed_total", &[], |shed| shed >= 10.0);
    standing.wait_metric("tidegate_memory_grades_entered_total", &["refusing"], |entered| entered >= 1.0);
    publishers.stop();
    drop((stalled, standing));
    oracles.check(gateway);
}

#[test]
fn c7_in_a_control_group_the_budget_is_three_quarters_of_its_limit_and_nothing_is_killed() {
    let Some(group) = ControlGroup::limited_to(GROUP_BYTES) else { return };
    // The shell joins the group and becomes the gateway.
    let join = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let mut gateway = Gateway::start_in_shell(&join, &PATIENT);
    fill(&mut gateway);
    let events = std::fs::read_to_string(group.0.join("memory.events")).expect("the group is there");
    assert!(events.lines().any(|line| line == "oom_kill 0"), "{events}");
    drop(gateway);
}

/// For machines that let the test make no group: what a group says stands where the gateway looks for it, in a mount namespace of
/// its own. The kernel holds nobody to it, so it is looked at what the kernel would have seen.
#[test]
fn c7_what_a_control_group_says_is_found_where_it_is_mounted_and_kept_to() {
    for (file, of) in [("memory.max", "2"), ("memory/memory.limit_in_bytes", "1")] {
        let mount = "mount -t tmpfs tidegate-test /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory";
        let write = format!("{mount} && echo {GROUP_BYTES} > /sys/fs/cgroup/{file}");
        let Some(mut gateway) = Gateway::start_apart("--mount", &write, &PATIENT) else { return };
        fill(&mut gateway);
        let most = gateway.resident_bytes_max();
        assert!(most > GROUP_BYTES / 2, "version {of}: {most} bytes at most, so it was not filled");
        assert!(most <= GROUP_BYTES, "version {of}: {most} bytes at most");
    }
}
