//! The live view on standard error: a bar while connections open, then a line for each target.
//!
//! On a terminal it is redrawn in place, with what is said scrolling above. Elsewhere what is said are
//! plain lines, and nothing is drawn.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::timeline::{Counted, Sample};

/// Cells of a progress bar.
const BAR_CELLS: u64 = 24;
/// A line of text, cut at the edge of the terminal.
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
            (false, true) => Self::Live(Live::new(names, ProgressDrawTarget::stderr())),
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
        let seconds = now.at_s - before.at_s;
        for (index, line) in live.targets.iter().enumerate() {
            let Some((earlier, counted)) = before.targets.get(index).zip(now.targets.get(index)) else {
                return;
            };
            let text = match openings[index] {
                Some((done, count)) => ramp(done, count, counted.upgraded - earlier.upgraded, seconds),
                None => rates(earlier, counted, seconds),
            };
            line.set_message(format!("{:>7}  {text}", line.prefix()));
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
    fn new(names: &[String], target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let style = ProgressStyle::with_template(LINE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let add = || all.add(ProgressBar::new(0).with_style(style.clone()));
        let head = add();
        let targets = names.iter().map(|name| add().with_prefix(name.clone())).collect();
        Self { all, head, targets }
    }
}

/// How far connections are opened: a bar, how many, how fast, how long still.
fn ramp(done: u64, count: u64, newly: u64, seconds: f64) -> String {
    let full = done * BAR_CELLS / count.max(1);
    let bar: String = (0..BAR_CELLS).map(|cell| if cell < full { '#' } else { '-' }).collect();
    let per_second = newly as f64 / f64::max(seconds, 1e-3);
    let left = if newly == 0 { "?".to_owned() } else { clock((count - done) as f64 / per_second) };
    format!("connecting [{bar}] {done}/{count}  {per_second:.0}/s  {left} left")
}

/// What happened to a target between two moments, in one line of mostly less than 80 columns; `us each` is the
/// server CPU per delivery.
fn rates(before: &Counted, now: &Counted, seconds: f64) -> String {
    let delivered = now.delivered.saturating_sub(before.delivered);
    let cpu_ns = now.cpu_ns.saturating_sub(before.cpu_ns) as f64;
    let per_second = |count: u64| count as f64 / f64::max(seconds, 1e-3);
    let mut text = format!(
        "{} live  {} errors  {:.0} deliveries/s",
        now.live,
        now.faults + now.closed,
        per_second(delivered)
    );
    if now.cpu_ns > 0 {
        text += &format!("  {:.2} cores", cpu_ns / 1e9 / f64::max(seconds, 1e-3));
        if delivered > 0 {
            text += &format!("  {:.3} us each", cpu_ns / 1e3 / delivered as f64);
        }
    }
    if now.upgraded > before.upgraded {
        text += &format!("  {:.0} connections/s", per_second(now.upgraded - before.upgraded));
    }
    text
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
    use indicatif::InMemoryTerm;

    #[test]
    fn a_line_has_rates_since_the_last_sample() {
        let before = Counted { live: 7, delivered: 1_000, cpu_ns: 1_000_000, ..Counted::default() };
        let now = Counted { delivered: 3_000, cpu_ns: 3_000_000, faults: 1, closed: 2, ..before };
        let text = rates(&before, &now, 0.5);
        assert_eq!(text, "7 live  3 errors  4000 deliveries/s  0.00 cores  1.000 us each");
    }

    #[test]
    fn an_unknown_server_has_no_cpu_in_its_line() {
        let text = rates(&Counted::default(), &Counted { upgraded: 5, ..Counted::default() }, 1.0);
        assert_eq!(text, "0 live  0 errors  0 deliveries/s  5 connections/s");
    }

    #[test]
    fn a_ramp_says_how_long_it_takes_still() {
        assert_eq!(
            ramp(3_000, 12_000, 1_500, 0.5),
            "connecting [######------------------] 3000/12000  3000/s  00:03 left"
        );
        assert!(ramp(0, 10, 0, 0.5).ends_with("0/10  0/s  ? left"));
    }

    #[test]
    fn what_is_said_stands_above_what_is_drawn_and_stays_when_that_is_taken_away() {
        let terminal = InMemoryTerm::new(8, 60);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let screen = Screen::Live(Live::new(&["server".to_owned()], target));
        let sample = |at_s, live| Sample { at_s, targets: vec![Counted { live, ..Counted::default() }] };
        screen.draw("fanout", &sample(0.0, 0), &sample(0.5, 7), &[None]);
        screen.say("round 1");
        screen.say("round 2");
        screen.draw("fanout", &sample(60.0, 7), &sample(60.5, 8), &[None]);
        // Whether the last of these draws is skipped depends on the time between them: only its place counts.
        let lines: Vec<String> = terminal.contents().lines().map(str::to_owned).collect();
        assert_eq!((lines[0].as_str(), lines[1].as_str()), ("round 1", "round 2"), "{lines:?}");
        assert!(lines[2].starts_with("fanout  0") && lines[3].starts_with(" server  "), "{lines:?}");
        assert_eq!(lines.len(), 4, "{lines:?}");
        screen.clear();
        assert_eq!(terminal.contents(), "round 1\nround 2");
    }

    #[test]
    fn the_clock_shows_hours_only_when_there_are_some() {
        assert_eq!((clock(65.2), clock(3_723.0)), ("01:05".into(), "1:02:03".into()));
    }
}
