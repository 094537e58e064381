//! The latencies as a standard HdrHistogram log: one interval a round and series, tagged with the
//! series. Values are nanoseconds, and the column of maxima is milliseconds, as usual in such logs.

use std::io::Write;
use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::Report;
use super::compare::DISTRIBUTIONS;

/// Nanoseconds in a unit of the column of maxima.
const MAXIMUM_DIVISOR: f64 = 1e6;

impl Report {
    /// The log, for any reader of HdrHistogram logs.
    ///
    /// # Errors
    /// One line with the cause, when a histogram cannot be encoded.
    pub fn hdr(&self) -> Result<Vec<u8>, String> {
        let (mut out, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment(&format!("[tidegate-loadtest {}, {}]", env!("CARGO_PKG_VERSION"), self.scenario))
            .add_comment(&format!("[values are nanoseconds; unit: {}]", self.unit))
            .add_comment("[one line a round: tag = series, seconds since StartTime, length in seconds, maximum in milliseconds, histogram]")
            .with_start_time(self.start.time)
            .with_base_time(self.start.time)
            .with_max_value_divisor(MAXIMUM_DIVISOR)
            .begin_log_with(&mut out, &mut serializer)
            .map_err(|error| error.to_string())?;
        let mut intervals: Vec<_> = self
            .series
            .iter()
            .flat_map(|series| {
                series.rounds.iter().map(move |round| (series.name.replace([' ', ','], "_"), round))
            })
            .collect();
        intervals.sort_by_key(|(_, round)| round.started_ns);
        for (name, round) in &intervals {
            let start = Duration::from_nanos(round.started_ns.saturating_sub(self.start.monotonic_ns));
            let length = Duration::try_from_secs_f64(round.wall_s).unwrap_or_default();
            for distribution in DISTRIBUTIONS {
                let values = (distribution.of)(round);
                // A round in which nothing arrived keeps its line; a kind of value that a scenario has not, has none.
                if values.is_empty() && !distribution.suffix.is_empty() {
                    continue;
                }
                let tag = format!("{name}{}", distribution.suffix);
                log.write_histogram(values, start, length, Tag::new(&tag))
                    .map_err(|error| format!("{tag}: {error}"))?;
            }
        }
        out.flush().map_err(|error| error.to_string())?;
        Ok(out)
    }
}
