//! The live view on standard error: a bar while connections open, then a line for each target.
//!
//! On a terminal it is redrawn in place, with what is said scrolling above. Elsewhere what is said are
//! plain lines, and nothing is drawn.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::timeline::{Counted, Sample};

/// Draws a bar: connections, how fast, how long still.
const BAR: &str = "{prefix:>9}  connecting [{bar:24}] {pos}/{len}  {per_sec}  {eta} left";
/// A line of text.
const LINE: &str = "{wide_msg}";

/// Where the view goes.
#[derive(Clone, Debug)]
pub enum Screen {
    /// `--quiet`: nowhere.
    Silent,
    /// No terminal: plain lines.
    Plain,
    /// A terminal.
    Live(Live),
}

/// The lines that are redrawn. Nothing of the terminal is switched, so that there is nothing to restore.
#[derive(Clone, Debug)]
pub struct Live {
    all: MultiProgress,
    head: ProgressBar,
    targets: Vec<ProgressBar>,
}

impl Screen {
    /// Chooses by what standard error is.
    pub fn choose(is_quiet: bool, names: &[String]) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|kind| kind.is_empty() || kind == "dumb");
        match (is_quiet, std::io::stderr().is_terminal() && !is_dumb) {
            (true, _) => Self::Silent,
            (false, false) => Self::Plain,
            (false, true) => Self::Live(Live::new(names)),
        }
    }

    /// Says a line, above what is drawn.
    pub fn say(&self, text: &str) {
        match self {
            Self::Silent => {}
            Self::Plain => eprintln!("{text}"),
            Self::Live(live) => {
                let _ = live.all.println(text);
            }
        }
    }

    /// Draws the latest sample; `openings` says how far a target's connections are being opened.
    pub fn draw(&self, title: &str, before: &Sample, now: &Sample, openings: &[Option<(u64, u64)>]) {
        let Self::Live(live) = self else { return };
        live.head.set_message(format!("{title}  {}", clock(now.at_s)));
        for (index, bar) in live.targets.iter().enumerate() {
            match (openings[index], before.targets.get(index)) {
                (Some((done, count)), _) => draw_bar(bar, done, count),
                (None, Some(earlier)) => {
                    bar.set_style(style(LINE));
                    bar.set_length(0);
                    let text = line(earlier, &now.targets[index], now.at_s - before.at_s);
                    bar.set_message(format!("{:>9}  {text}", bar.prefix()));
                }
                (None, None) => {}
            }
        }
    }

    /// Takes the drawing away.
    pub fn clear(&self) {
        if let Self::Live(live) = self {
            let _ = live.all.clear();
        }
    }
}

impl Live {
    fn new(names: &[String]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let add = |style| all.add(ProgressBar::new(0).with_style(style));
        let head = add(style(LINE));
        let targets = names.iter().map(|name| add(style(LINE)).with_prefix(name.clone())).collect();
        Self { all, head, targets }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("##-")
}

fn draw_bar(bar: &ProgressBar, done: u64, count: u64) {
    if bar.length() != Some(count) {
        bar.set_style(style(BAR));
        bar.reset();
        bar.set_length(count);
    }
    bar.set_position(done);
}

/// What happened to a target between two moments, in one line.
fn line(before: &Counted, now: &Counted, seconds: f64) -> String {
    let delivered = now.delivered.saturating_sub(before.delivered);
    let cpu_ns = now.cpu_ns.saturating_sub(before.cpu_ns) as f64;
    let per_second = |count: u64| count as f64 / f64::max(seconds, 1e-3);
    let mut text = format!("{} live  {:>9.0} deliveries/s", now.live, per_second(delivered));
    if now.upgraded > before.upgraded {
        text += &format!("  {:.0} connections/s", per_second(now.upgraded - before.upgraded));
    }
    if now.cpu_ns > 0 {
        text += &format!("  {:.2} cores", cpu_ns / 1e9 / f64::max(seconds, 1e-3));
        if delivered > 0 {
            text += &format!("  {:.3} us/delivery", cpu_ns / 1e3 / delivered as f64);
        }
    }
    text + &format!("  {} errors", now.faults + now.closed)
}

fn clock(seconds: f64) -> String {
    let seconds = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

/// The title that stands above the lines: the scenario, as it was typed.
pub fn title() -> String {
    std::env::args().nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rates_since_the_last_sample() {
        let before = Counted { live: 7, delivered: 1_000, cpu_ns: 1_000_000, ..Counted::default() };
        let now = Counted { delivered: 3_000, cpu_ns: 3_000_000, faults: 1, closed: 2, ..before };
        let text = line(&before, &now, 0.5);
        assert_eq!(text, "7 live       4000 deliveries/s  0.00 cores  1.000 us/delivery  3 errors");
    }

    #[test]
    fn an_unknown_server_has_no_cpu_in_its_line() {
        let text = line(&Counted::default(), &Counted { upgraded: 5, ..Counted::default() }, 1.0);
        assert_eq!(text, "0 live          0 deliveries/s  5 connections/s  0 errors");
    }

    #[test]
    fn the_clock_shows_hours_only_when_there_are_some() {
        assert_eq!((clock(65.2), clock(3_723.0)), ("01:05".into(), "1:02:03".into()));
    }
}
