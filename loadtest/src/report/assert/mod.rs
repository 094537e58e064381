//! `--assert`: figures held against bounds, for those who read exit codes. `figure` knows the figures;
//! here are the expressions, what can be refused before a run, and the verdict after it.

mod figure;
#[cfg(test)]
mod tests;

pub use figure::is_fact;
use figure::{Dimension, Figure, Origin};

use crate::cli::Common;
use crate::failure::Failure;
use crate::report::Report;
use crate::round::{median, ratios};

/// Whether a value and a bound are as an operator wants them.
type Comparison = fn(f64, f64) -> bool;

/// The operators, longer ones before those that they begin with.
const OPERATORS: [(&str, Comparison); 5] = [
    ("<=", |value, bound| value <= bound),
    (">=", |value, bound| value >= bound),
    ("==", |value, bound| value == bound),
    ("<", |value, bound| value < bound),
    (">", |value, bound| value > bound),
];

/// `FIGURE OP VALUE`, as it was typed and as it is meant.
#[derive(Clone, Debug)]
pub struct Assertion {
    text: String,
    figure: Figure,
    holds: Comparison,
    bound: Bound,
}

/// What a figure is held against.
#[derive(Clone, Debug, PartialEq)]
enum Bound {
    /// A value in the unit of the figure.
    Value(f64),
    /// So many percent of the whole that the figure is a part of.
    Share(f64),
    /// So many times the same figure of that series, and so much more.
    Times(f64, String, f64),
}

/// What a scenario measures, as far as that is known before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Gives {
    /// Whether it has rounds: rates, latencies, CPU per unit.
    pub has_rounds: bool,
    /// Whether it looks at the server's memory.
    pub has_memory: bool,
    /// What a unit is.
    pub unit: &'static str,
    /// Whether its series are servers; else they are the same one without and with stalled connections.
    pub sets_servers_side_by_side: bool,
}

/// The outcome of an assertion.
#[derive(Clone, Debug)]
pub struct Told {
    /// Whether it is met.
    pub holds: bool,
    /// The assertion and what was measured, in one line.
    pub text: String,
}

impl Assertion {
    /// Reads an expression.
    ///
    /// # Errors
    /// One line that says what there is instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let none = || format!("'{text}' has no operator: write FIGURE OP VALUE with one of < <= > >= ==");
        let at = text.find(['<', '>', '=', '!']).ok_or_else(none)?;
        let (name, rest) = text.split_at(at);
        let &(operator, holds) =
            OPERATORS.iter().find(|(operator, _)| rest.starts_with(operator)).ok_or_else(none)?;
        let figure = Figure::parse(name.trim())?;
        let bound = Bound::parse(rest[operator.len()..].trim(), figure.dimension)
            .map_err(|cause| format!("{cause} for {}", figure.name))?;
        if matches!(bound, Bound::Times(_, _, more) if more != 0.0) && figure.of_round().is_some() {
            return Err(format!(
                "{} is compared round by round: write a factor, and nothing added",
                figure.name
            ));
        }
        let text = text.split_whitespace().collect::<String>();
        Ok(Self { text, figure, holds, bound })
    }

    /// Refuses what this command line cannot measure.
    fn check(&self, names: &[String], servers: &[String], gives: &Gives) -> Result<(), String> {
        let figure = &self.figure.name;
        match self.figure.origin {
            Some(Origin::Cpu(Some(unit))) if gives.has_rounds && unit != gives.unit => {
                return Err(format!(
                    "a unit of this scenario is a {}: write cpu_per_{}",
                    gives.unit, gives.unit
                ));
            }
            Some(
                Origin::Latency(..)
                | Origin::Cpu(_)
                | Origin::UserCpu
                | Origin::Rate
                | Origin::GeneratorCores
                | Origin::WirePerDelivery
                | Origin::Compressed,
            ) if !gives.has_rounds => {
                return Err(format!("this scenario measures no rounds, so it has no {figure}"));
            }
            Some(Origin::RssPerConnection) if !gives.has_memory => {
                return Err(format!("this scenario does not look at memory, so it has no {figure}"));
            }
            None if !figure::belongs(figure, servers) => {
                return Err(format!("there is no such server in this run, only {}", servers.join(", ")));
            }
            _ => {}
        }
        let Bound::Times(_, series, _) = &self.bound else { return Ok(()) };
        if !gives.sets_servers_side_by_side && !self.figure.is_of_series() {
            return Err(format!("{figure} is counted over the whole run, not with and without"));
        }
        match place_of(names, series) {
            Some(0) => Err(format!("'{series}' is the first series itself: give --url, or a second --limit")),
            Some(_) => Ok(()),
            None => {
                let cure = match series.as_str() {
                    "versus" => "give --versus-url".to_owned(),
                    _ if gives.sets_servers_side_by_side => {
                        series.replacen("limit-", "limit=", 1).replacen("limit", "give --limit", 1)
                    }
                    _ => "this scenario sets the first server beside itself: 'without'".to_owned(),
                };
                Err(format!("there is no series '{series}' in this run ({}): {cure}", names.join(", ")))
            }
        }
    }

    /// Holds it against what was measured.
    fn judge(&self, report: &Report, connections: usize) -> Told {
        let (holds, was) = match self.measure(report, connections) {
            Ok(outcome) => outcome,
            Err(cause) => (false, format!("cannot be told: {cause}")),
        };
        Told { holds, text: format!("assert {}: {} {was}", self.text, self.figure.name) }
    }

    fn measure(&self, report: &Report, connections: usize) -> Result<(bool, String), String> {
        let (value, whole) = self.figure.of(report, 0, connections)?;
        let shown = self.figure.dimension.show(value);
        match &self.bound {
            Bound::Value(bound) => Ok(((self.holds)(value, *bound), format!("was {shown}"))),
            Bound::Share(share) => {
                let percent = 100.0 * value / f64::max(whole, 1.0);
                Ok(((self.holds)(percent, *share), format!("was {shown}, {percent:.4} % of {whole:.0}")))
            }
            Bound::Times(factor, name, more) => {
                let times = self.times(report, name, connections)?;
                let (of, holds) = match times {
                    Times::Ratio(ratio) => {
                        (format!("{ratio:.3} x {name}, median of rounds"), (self.holds)(ratio, *factor))
                    }
                    Times::Value(base) => (
                        format!("that of {name} {}", self.figure.dimension.show(base)),
                        (self.holds)(value, factor * base + more),
                    ),
                };
                Ok((holds, format!("was {shown}, {of}")))
            }
        }
    }

    /// The same figure elsewhere. Where rounds ran side by side it is the median of their ratios, as in
    /// the summary: a shared machine drifts by more than servers differ.
    fn times(&self, report: &Report, name: &str, connections: usize) -> Result<Times, String> {
        let names: Vec<String> = report.series.iter().map(|series| series.name.clone()).collect();
        if let (Some(figure), Some(place)) = (self.figure.of_round(), place_of(&names, name)) {
            let all = ratios(&report.series[0], &report.series[place], figure);
            return median(all).map(Times::Ratio).ok_or_else(|| format!("no round of {name} has it"));
        }
        let servers: Vec<String> = report.stats.iter().map(|(name, _)| name.clone()).collect();
        let place = place_of(&names, name).or_else(|| place_of(&servers, name));
        let place = place.ok_or_else(|| format!("this run has no series '{name}'"))?;
        let mut other = self.figure.clone();
        if other.origin.is_none()
            && let (Some(first), Some(there)) = (servers.first(), servers.get(place))
            && let Some(rest) = other.name.strip_prefix(first.as_str())
        {
            other.name = format!("{there}{rest}");
        }
        let base = other.of(report, place, connections)?.0;
        Ok(Times::Value(base))
    }
}

/// What a figure is compared with.
enum Times {
    /// The ratio to it.
    Ratio(f64),
    /// Its value.
    Value(f64),
}

impl Bound {
    fn parse(text: &str, dimension: Dimension) -> Result<Self, String> {
        if text.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            return Self::times(1.0, text, dimension);
        }
        let (number, rest) = split_number(text).ok_or_else(|| {
            format!("'{text}' is no value: write a number, a number with a unit, or 1.1*limit")
        })?;
        if let Some(name) = rest.strip_prefix('*') {
            return Self::times(number, name, dimension);
        }
        let scale = dimension
            .scale(rest)
            .ok_or_else(|| format!("unknown unit '{rest}', there is: {}", dimension.units()))?;
        let is_share = dimension == Dimension::Count && rest == "%";
        Ok(if is_share { Self::Share(number) } else { Self::Value(number * scale) })
    }

    /// A series, and what may be more than its figure: `versus+64B`.
    fn times(factor: f64, text: &str, dimension: Dimension) -> Result<Self, String> {
        let Some((name, more)) = text.split_once('+') else {
            return Ok(Self::Times(factor, reference(text.trim())?, 0.0));
        };
        let name = reference(name.trim())?;
        match Self::parse(more.trim(), dimension)? {
            Self::Value(more) => Ok(Self::Times(factor, name, more)),
            _ => Err(format!("'{more}' is no value to be added")),
        }
    }
}

/// The name of a series that can be referred to.
fn reference(name: &str) -> Result<String, String> {
    let is_limit = name.strip_prefix("limit-").is_some_and(|threads| threads.parse::<usize>().is_ok());
    if is_limit || ["limit", "versus", "without"].contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!("unknown reference '{name}', there are: limit limit-2 (of two threads) versus without"))
}

/// A finite number at the beginning, and what comes behind it.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let is_part = |letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter);
    let longest = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
    let number =
        (1..=longest).rev().find_map(|end| Some((text[..end].parse::<f64>().ok()?, text[end..].trim())));
    number.filter(|(number, _)| number.is_finite())
}

/// The place of a series by its name; `limit` alone means any limit, `without` that of the first server.
fn place_of(names: &[String], name: &str) -> Option<usize> {
    let exact = names.iter().position(|other| other == name);
    exact.or_else(|| match name {
        "limit" => names.iter().position(|other| other.starts_with("limit-")),
        "without" => names.iter().position(|other| other.ends_with(" without")),
        _ => None,
    })
}

/// Refuses, before anything starts, what a run of this command line will not measure.
///
/// # Errors
/// `Usage` with the assertion and the cure.
pub fn check(common: &Common, gives: &Gives) -> Result<(), Failure> {
    let mut servers = Vec::new();
    servers.extend((!common.url.is_empty()).then(|| "server".to_owned()));
    servers.extend((!common.versus_url.is_empty()).then(|| "versus".to_owned()));
    let limit = |&threads: &usize| if threads == 1 { "limit".into() } else { format!("limit-{threads}") };
    servers.extend(common.limit.iter().map(limit));
    let names = if gives.sets_servers_side_by_side {
        servers.clone()
    } else {
        vec!["with stalled".to_owned(), "without".to_owned()]
    };
    let refuse =
        |assertion: &Assertion, cause| Failure::Usage(format!("--assert '{}': {cause}", assertion.text));
    let mut all = common.assert.iter();
    all.try_for_each(|assertion| {
        assertion.check(&names, &servers, gives).map_err(|cause| refuse(assertion, cause))
    })
}

impl Report {
    /// What became of each `--assert`.
    pub fn assertions(&self, common: &Common) -> Vec<Told> {
        common.assert.iter().map(|assertion| assertion.judge(self, common.connections)).collect()
    }
}
