//! Line charts as SVG without scripts: each is drawn twice, for wide and for narrow windows, so that
//! its letters have the size of the text around it in both. Colours and dashes come from the page.

use std::fmt::Write;

use super::html::escape;

/// Lines that differ; a further one begins again with the first.
const STYLES: usize = 6;

/// One line of a chart.
pub struct Line {
    pub name: String,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
}

/// What is drawn.
pub struct Chart {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub lines: Vec<Line>,
    /// Places and names of marks on the x axis; none: round numbers.
    pub x_marks: Vec<(f64, String)>,
    /// The end of the x axis, if it goes on behind the last point.
    pub x_end: f64,
    /// Whether y grows by factors.
    pub is_log_y: bool,
}

/// A size and the place of the plot in it, in pixels.
struct Frame {
    class: &'static str,
    width: f64,
    height: f64,
    left: f64,
    x_marks_max: usize,
}

const FRAMES: [Frame; 2] = [
    Frame { class: "wide", width: 1080.0, height: 340.0, left: 64.0, x_marks_max: 10 },
    Frame { class: "narrow", width: 340.0, height: 260.0, left: 52.0, x_marks_max: 6 },
];
const TOP: f64 = 30.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 48.0;

/// A scale from values to pixels, with marks.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    is_log: bool,
}

impl Scale {
    fn place(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }
}

impl Chart {
    /// The figure with its legend. Nothing is drawn of lines without points.
    pub fn figure(&self) -> String {
        let mut out = format!("<figure><h3>{}</h3>\n<ul class=\"legend\">", escape(&self.title));
        for (index, line) in self.lines.iter().enumerate() {
            let _ = write!(
                out,
                "<li><svg width=\"40\" height=\"10\" aria-hidden=\"true\"><path class=\"line s{}\" d=\"M1 5H39\"/></svg> {}</li>",
                index % STYLES,
                escape(&line.name)
            );
        }
        out += "</ul>\n";
        FRAMES.iter().for_each(|frame| self.push_svg(&mut out, frame));
        out + "</figure>\n"
    }

    fn push_svg(&self, out: &mut String, frame: &Frame) {
        let (x, y) = (self.x_scale(frame), self.y_scale(frame));
        let _ = writeln!(
            out,
            "<svg class=\"chart {}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}, {}, by {}\">",
            frame.class,
            frame.width,
            frame.height,
            escape(&self.title),
            escape(&self.y_label),
            escape(&self.x_label)
        );
        self.push_axes(out, frame, &x, &y);
        for (index, line) in self.lines.iter().enumerate() {
            let mut path = String::new();
            for (number, &(at, value)) in line.points.iter().enumerate() {
                let letter = if number == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{:.1} {:.1}", x.place(at), y.place(value));
            }
            let _ = writeln!(out, "<path class=\"line s{}\" d=\"{path}\"/>", index % STYLES);
        }
        out.push_str("</svg>\n");
    }

    fn push_axes(&self, out: &mut String, frame: &Frame, x: &Scale, y: &Scale) {
        let (left, right, bottom) = (frame.left, frame.width - RIGHT, frame.height - BOTTOM);
        for value in if y.is_log { log_marks(y.low, y.high) } else { round_marks(y.low, y.high, 5) } {
            let at = y.place(value);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                at + 4.0,
                short(value)
            );
        }
        for (value, name) in self.marks_on_x(x, frame.x_marks_max) {
            let at = x.place(value);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                escape(&name)
            );
        }
        let _ = writeln!(out, "<path class=\"axis\" d=\"M{left} {TOP}V{bottom}H{right}\"/>");
        let _ = writeln!(
            out,
            "<text class=\"label\" x=\"2\" y=\"16\">{}</text><text class=\"label\" x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            escape(&self.y_label),
            frame.height - 8.0,
            escape(&self.x_label)
        );
    }

    fn marks_on_x(&self, x: &Scale, count_max: usize) -> Vec<(f64, String)> {
        if self.x_marks.is_empty() {
            let marks = round_marks(x.low, x.high, count_max);
            return marks.into_iter().map(|value| (value, short(value))).collect();
        }
        let step = self.x_marks.len().div_ceil(count_max);
        self.x_marks.iter().step_by(step).cloned().collect()
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.lines.iter().flat_map(|line| &line.points)
    }

    fn x_scale(&self, frame: &Frame) -> Scale {
        let high = self.points().map(|point| point.0).fold(self.x_end, f64::max);
        let high = if high > 0.0 { high } else { 1.0 };
        Scale { low: 0.0, high, from: frame.left, to: frame.width - RIGHT, is_log: false }
    }

    fn y_scale(&self, frame: &Frame) -> Scale {
        let highest = self.points().map(|point| point.1).fold(0.0, f64::max);
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let (from, to) = (frame.height - BOTTOM, TOP);
        if !self.is_log_y {
            let step = round_step(highest, 5);
            return Scale { low: 0.0, high: (highest / step).ceil() * step, from, to, is_log: false };
        }
        let lowest = self.points().map(|point| point.1).filter(|&value| value > 0.0).fold(highest, f64::min);
        let low = 10f64.powf(lowest.log10().floor());
        let high = 10f64.powf(highest.log10().ceil()).max(low * 10.0);
        Scale { low, high, from, to, is_log: true }
    }
}

/// A step of 1, 2 or 5 times a power of ten that divides `span` into at most `count` parts, or a few more.
fn round_step(span: f64, count: usize) -> f64 {
    let rough = span / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

fn round_marks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let step = round_step(high - low, count);
    let number = ((high - low) / step * 1.000_001).floor() as u32;
    (0..=number).map(|index| low + f64::from(index) * step).collect()
}

/// Powers of ten; with what lies between them where there are few.
fn log_marks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10().round() as i32;
    let between: &[f64] = if decades <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let marks =
        (0..=decades).flat_map(|decade| between.iter().map(move |part| low * 10f64.powi(decade) * part));
    marks.filter(|&value| value <= high * 1.000_001).collect()
}

/// A number with few digits: `0.05`, `250`, `12k`, `3.5M`.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let number = format!("{value:.3}");
    format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, is_log_y: bool) -> Chart {
        Chart {
            title: "<b>".into(),
            x_label: "s".into(),
            y_label: "ms".into(),
            lines: vec![Line { name: "a & b".into(), points }],
            x_marks: Vec::new(),
            x_end: 0.0,
            is_log_y,
        }
    }

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(round_marks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(log_marks(0.1, 10.0), [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!(log_marks(1.0, 1e4), [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.05, 250.0, 12_000.0, 3.5e6, 0.0].map(short), ["0.05", "250", "12k", "3.5M", "0"]);
    }

    #[test]
    fn a_chart_is_drawn_for_both_widths_and_escapes_its_names() {
        let figure = chart(vec![(0.0, 1.0), (1.0, 3.0)], false).figure();
        assert_eq!(figure.matches("<svg class=\"chart").count(), 2);
        assert!(figure.contains("&lt;b&gt;") && figure.contains("a &amp; b") && !figure.contains("<b>"));
    }

    #[test]
    fn no_points_and_flat_lines_give_finite_coordinates() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(0.0, 5.0), (0.0, 5.0)]] {
            for is_log_y in [false, true] {
                let figure = chart(points.clone(), is_log_y).figure();
                assert!(!figure.contains("NaN") && !figure.contains("inf"), "{figure}");
            }
        }
    }
}
