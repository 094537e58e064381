//! What makes the figures of a series doubtful: mostly that this tool was slower than the server.

use super::compare::Total;

/// Share of a core that a thread of this tool may use before it may be what is measured.
const THREAD_LOAD_MAX: f64 = 0.9;
/// Share of the time that its cores may be busy.
const CORES_LOAD_MAX: f64 = 0.95;
/// Share of acknowledgements by timer above which the server paid for a starved generator.
const LATE_ACKS_MAX: f64 = 0.1;
/// The count of such acknowledgements is the whole machine's: beside fewer reads than this it says nothing.
const READS_MIN: u64 = 1000;
/// Part of the measured latency that may be our own lateness, at the 99th percentile of both.
const OWN_SHARE_MAX: f64 = 0.25;
/// Lateness below this says nothing, milliseconds.
const OWN_MS_MIN: f64 = 5.0;

/// One line each, the most serious first.
pub fn notes(total: &Total, cores: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let ms = |values: &hdrhistogram::Histogram<u64>| values.value_at_quantile(0.99) as f64 / 1e6;
    let (lag, late, latency) = (ms(&total.lag), ms(&total.late), ms(&total.latency));
    if total.busiest_thread > THREAD_LOAD_MAX {
        notes.push(format!(
            "WARNING the generator was a bottleneck: its busiest thread used {:.0} % of a core, so rates and latencies may be its own; \
             give more --threads, and cores",
            total.busiest_thread * 100.0
        ));
    } else if total.generator_cores > CORES_LOAD_MAX * cores as f64 {
        notes.push(format!(
            "WARNING the generator was a bottleneck: it kept all of its {cores} core(s) busy, so rates and latencies may be its own; \
             give it more --client-cores, or a smaller load"
        ));
    }
    if lag > OWN_MS_MIN && lag > OWN_SHARE_MAX * latency {
        notes.push(format!(
            "WARNING the generator looked at its sockets too rarely: every {lag:.1} ms at the 99th percentile, beside a latency of {latency:.1} ms; \
             give it more --threads and cores, or a smaller load"
        ));
    }
    if late > OWN_MS_MIN && late > OWN_SHARE_MAX * latency {
        notes.push(format!(
            "WARNING messages were published late: {late:.1} ms after they were due at the 99th percentile, beside a latency of {latency:.1} ms; \
             the way in takes longer than --rate leaves it: publish less often, or by another --publish"
        ));
    }
    if total.reads >= READS_MIN && total.acks_by_timer > LATE_ACKS_MAX {
        notes.push(
            "NOTE subscribers read late, so that timers acknowledged for them at the server's cost: give the generator's core some rest"
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::{Round, Series};

    fn notes_of(change: impl Fn(&mut Round)) -> Vec<String> {
        let mut round = Round { wall_s: 1.0, units: 1000, reads: 1000, ..Round::empty(0) };
        round.latency.record_n(40_000_000, 100).unwrap();
        change(&mut round);
        notes(&Total::of(&Series { name: "server".into(), rounds: vec![round] }), 2)
    }

    #[test]
    fn a_run_in_which_the_server_was_the_slower_one_has_none() {
        let fine = notes_of(|round| {
            round.busiest_ns = 800_000_000;
            round.own.total_ns = 1_500_000_000;
            round.lag.record_n(6_000_000, 100).unwrap();
            round.late.record_n(1_000_000, 100).unwrap();
        });
        assert_eq!(fine, Vec::<String>::new());
    }

    #[test]
    fn each_way_of_being_the_bottleneck_is_told() {
        type Change = fn(&mut Round);
        let cases: [(Change, &str); 5] = [
            (|round| round.busiest_ns = 950_000_000, "busiest thread used 95 %"),
            (|round| round.own.total_ns = 1_950_000_000, "all of its 2 core(s)"),
            (|round| round.lag.record_n(30_000_000, 100).unwrap(), "too rarely"),
            (|round| round.late.record_n(30_000_000, 100).unwrap(), "published late"),
            (|round| round.acks_by_timer = 500, "read late"),
        ];
        for (change, text) in cases {
            let notes = notes_of(change);
            assert!(notes.len() == 1 && notes[0].contains(text), "{text}: {notes:?}");
        }
    }
}
