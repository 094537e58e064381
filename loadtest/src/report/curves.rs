//! Which curves a report has: latency by percentile, and what the timeline saw.

use hdrhistogram::Histogram;

use super::Report;
use super::chart::{Chart, Line};
use super::compare::{DISTRIBUTIONS, Distribution, pooled};
use crate::monitor::{Counted, Sample, Timeline};

/// Points of a percentile curve.
const PERCENTILE_POINTS: u32 = 200;
/// Where the highest latency is so many times the lowest median, y grows by factors.
const LINEAR_FACTOR_MAX: f64 = 30.0;
/// Shorter intervals give no rate: the last sample may follow at once.
const INTERVAL_S_MIN: f64 = 0.2;

impl Report {
    /// Latency by percentile, a line each series.
    pub(super) fn percentile_charts(&self) -> Vec<Chart> {
        DISTRIBUTIONS.iter().filter_map(|distribution| self.percentile_chart(distribution)).collect()
    }

    /// `None` if nothing was measured.
    fn percentile_chart(&self, distribution: &Distribution) -> Option<Chart> {
        let latencies: Vec<(String, Histogram<u64>)> =
            self.series.iter().map(|series| (series.name.clone(), pooled(series, distribution.of))).collect();
        let latencies: Vec<_> = latencies.into_iter().filter(|(_, latency)| !latency.is_empty()).collect();
        let longest = latencies.iter().map(|(_, latency)| latency.len()).max()?;
        let highest = latencies.iter().map(|(_, latency)| latency.max()).max()? as f64;
        let middle = latencies.iter().map(|(_, latency)| latency.value_at_quantile(0.5)).min()? as f64;
        let lines = latencies.into_iter().map(|(name, latency)| Line { name, points: percentiles(&latency) });
        let is_log_y = highest > LINEAR_FACTOR_MAX * middle.max(1.0);
        let decades = (longest as f64).log10().max(1.0).floor() as i32;
        let mark = |decade: i32| {
            let percent = 100.0 - 10f64.powi(2 - decade);
            let digits = usize::try_from(decade - 2).unwrap_or(0);
            (f64::from(decade), format!("{percent:.digits$}"))
        };
        Some(Chart {
            title: format!("{} by percentile", distribution.title),
            x_label: "percentile, %".into(),
            y_label: if is_log_y { "ms (logarithmic)" } else { "ms" }.into(),
            lines: lines.collect(),
            x_marks: (0..=decades).map(mark).collect(),
            x_end: 0.0,
            is_log_y,
        })
    }

    /// What the timeline saw; curves that are zero all the time are left out.
    pub(super) fn time_charts(&self) -> Vec<Chart> {
        let charts: [(&str, &str, Figure); 6] = [
            ("Deliveries", "per second", Figure::Rate(|counted| counted.delivered as f64)),
            ("Upgraded connections", "per second", Figure::Rate(|counted| counted.upgraded as f64)),
            ("Live connections", "connections", Figure::Level(|counted| counted.live as f64)),
            ("Server CPU", "cores", Figure::Rate(|counted| counted.cpu_ns as f64 / 1e9)),
            ("Server memory", "MiB resident", Figure::Level(|counted| counted.rss as f64 / 1_048_576.0)),
            (
                "Lost, duplicated, reordered, corrupted and ended by the server",
                "so far",
                Figure::Level(|counted| (counted.faults + counted.closed) as f64),
            ),
        ];
        let chart = |(title, y_label, figure): (&str, &str, Figure)| Chart {
            title: title.into(),
            x_label: "seconds since the start".into(),
            y_label: y_label.into(),
            lines: lines_over_time(&self.timeline, figure),
            x_marks: Vec::new(),
            x_end: self.timeline.samples.last().map_or(0.0, |sample| sample.at_s),
            is_log_y: false,
        };
        let has_something =
            |chart: &Chart| chart.lines.iter().flat_map(|line| &line.points).any(|point| point.1 > 0.0);
        charts.into_iter().map(chart).filter(has_something).collect()
    }
}

/// How a count of the timeline becomes a curve.
#[derive(Clone, Copy)]
enum Figure {
    /// Its growth by second.
    Rate(fn(&Counted) -> f64),
    /// Itself.
    Level(fn(&Counted) -> f64),
}

/// x is log10(1 / (1 - p)): each step of one divides what is above by ten.
fn percentiles(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    let end = (latency.len() as f64).log10().max(0.3);
    let point = |number: u32| {
        let x = end * f64::from(number) / f64::from(PERCENTILE_POINTS);
        (x, latency.value_at_quantile(1.0 - 10f64.powf(-x)) as f64 / 1e6)
    };
    let mut points: Vec<_> = (0..PERCENTILE_POINTS).map(point).collect();
    points.push((end, latency.max() as f64 / 1e6));
    points
}

fn lines_over_time(timeline: &Timeline, figure: Figure) -> Vec<Line> {
    let line = |(index, name): (usize, &String)| {
        let points = match figure {
            Figure::Level(level) => {
                timeline.samples.iter().map(|sample| (sample.at_s, level(&sample.targets[index]))).collect()
            }
            Figure::Rate(total) => rates(&timeline.samples, |sample| total(&sample.targets[index])),
        };
        Line { name: name.clone(), points }
    };
    timeline.names.iter().enumerate().map(line).collect()
}

fn rates(samples: &[Sample], total: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let pairs = samples.windows(2).filter(|pair| pair[1].at_s - pair[0].at_s >= INTERVAL_S_MIN);
    pairs
        .map(|pair| {
            let (before, now) = (&pair[0], &pair[1]);
            let middle = f64::midpoint(before.at_s, now.at_s);
            (middle, (total(now) - total(before)).max(0.0) / (now.at_s - before.at_s))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::latencies;

    #[test]
    fn a_percentile_curve_rises_to_the_maximum() {
        let mut latency = latencies();
        (1..=1_000u64).for_each(|ms| latency.record(ms * 1_000_000).unwrap());
        let points = percentiles(&latency);
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{points:?}");
        let (x, y) = points[points.len() - 1];
        assert!((x - 3.0).abs() < 1e-9 && (y - 1_000.0).abs() < 1.0, "{x} {y}");
        // The mark 90 % is at 1.
        let ninety = points.iter().find(|point| point.0 >= 0.999).unwrap();
        assert!((ninety.1 - 900.0).abs() < 10.0, "{ninety:?}");
    }

    #[test]
    fn a_rate_is_growth_by_second_and_the_last_moment_gives_none() {
        let sample =
            |at_s, delivered| Sample { at_s, targets: vec![Counted { delivered, ..Counted::default() }] };
        let samples = [sample(0.0, 0), sample(0.5, 100), sample(1.0, 100), sample(1.01, 200)];
        assert_eq!(
            rates(&samples, |sample| sample.targets[0].delivered as f64),
            [(0.25, 200.0), (0.75, 0.0)]
        );
    }
}
