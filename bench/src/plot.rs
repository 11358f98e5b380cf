//! Line charts as plain SVG, readable on light and on dark ground.

use crate::table::number;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;

/// Where charts are kept, beside the document that shows them.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plots");

/// How an axis places its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Equal steps for equal differences, from 0 on.
    Linear,
    /// Equal steps for equal ratios; values that are not positive are left out.
    Log,
}

/// One axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis<'a> {
    /// What it shows, with its unit.
    pub(crate) title: &'a str,
    /// How.
    pub(crate) scale: Scale,
}

/// A line: its name and its points, from left to right.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// As the legend has it.
    pub(crate) name: String,
    /// Pairs of x and y.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart of some lines.
#[derive(Clone, Debug)]
pub(crate) struct Chart<'a> {
    /// What it shows as a whole.
    pub(crate) title: &'a str,
    /// The axis from left to right.
    pub(crate) x: Axis<'a>,
    /// The axis from bottom to top.
    pub(crate) y: Axis<'a>,
    /// The lines; six of them can be told apart.
    pub(crate) lines: Vec<Line>,
}

/// Size of the picture in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;

/// The plot in it: its sides.
const LEFT: f64 = 72.0;
const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = HEIGHT - 84.0;

/// Colours that stand out from white and from black, also for those who see few colours (by Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Beside the colour, what tells lines apart.
const DASHES: [&str; 6] = ["", "7 4", "2 3", "10 3 2 3", "4 2", "1 2"];

/// Text and axes: a grey that is read on either ground, and lighter where the ground is known to be dark.
const STYLE: &str = "<style>text{font:12px sans-serif;fill:#777}.t{font-size:14px;font-weight:bold}\
    .g{stroke:#888;stroke-opacity:.3}.a{stroke:#777}\
    @media(prefers-color-scheme:dark){text{fill:#ccc}}</style>";

/// What an axis shows, and where.
struct Range {
    scale: Scale,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Range {
    /// An axis from pixel `from` to pixel `to` that has room for all `values`.
    fn new(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let values: Vec<f64> = values.filter(|value| shows(scale, *value)).collect();
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let (least, most) = match scale {
            _ if values.is_empty() => (1.0, 10.0),
            Scale::Linear => (least.min(0.0), most.max(least.min(0.0) + 1e-9)),
            // A little beyond the powers of ten would waste most of the picture.
            Scale::Log => (least / 1.1, most * 1.1),
        };
        Self { scale, least, most, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.least) / (self.most - self.least),
            Scale::Log => (value / self.least).ln() / (self.most / self.least).ln(),
        };
        self.from + part * (self.to - self.from)
    }

    /// Where the axis has marks: round numbers.
    fn ticks(&self) -> Vec<f64> {
        let ticks = match self.scale {
            Scale::Linear => {
                let step = round_step((self.most - self.least) / 5.0);
                let first = (self.least / step).ceil() as i64;
                (first..first + 12).map(|number| number as f64 * step).collect()
            }
            Scale::Log => {
                let decades = self.least.log10().floor() as i32..=self.most.log10().ceil() as i32;
                let few = (self.most / self.least).log10() <= 3.0;
                let steps: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let of = |decade| steps.iter().map(move |step| step * 10_f64.powi(decade));
                decades.flat_map(of).collect::<Vec<_>>()
            }
        };
        let within = |tick: &f64| (self.least..=self.most * 1.000_001).contains(tick);
        ticks.into_iter().filter(within).collect()
    }
}

/// The next of 1, 2, 5, 10, … that is no less.
fn round_step(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|digit| digit * decade)
        .into_iter()
        .find(|it| *it >= step)
        .unwrap_or(10.0 * decade)
}

fn shows(scale: Scale, value: f64) -> bool {
    value.is_finite() && (scale == Scale::Linear || value > 0.0)
}

impl Chart<'_> {
    /// Writes the chart to `docs/plots/NAME.svg`.
    pub(crate) fn write(&self, name: &str) -> Result<()> {
        let path = format!("{FOLDER}/{name}.svg");
        fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
        fs::write(&path, self.svg()).with_context(|| format!("cannot write {path}"))?;
        eprintln!("written to docs/plots/{name}.svg");
        Ok(())
    }

    /// The chart as a file.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let x = Range::new(self.x.scale, points().map(|point| point.0), LEFT, RIGHT);
        let y = Range::new(self.y.scale, points().map(|point| point.1), BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
             <title>{}</title>\n{STYLE}\n",
            escaped(self.title)
        );
        text(&mut svg, (WIDTH / 2.0, 22.0), "middle\" class=\"t", self.title);
        self.axes(&mut svg, &x, &y);
        for (number, line) in self.lines.iter().enumerate() {
            draw(&mut svg, number, &self.pixels(line, &x, &y));
            legend(&mut svg, number, &line.name);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn pixels(&self, line: &Line, x: &Range, y: &Range) -> Vec<(f64, f64)> {
        let shown = line.points.iter();
        let shown =
            shown.filter(|point| shows(self.x.scale, point.0) && shows(self.y.scale, point.1));
        shown.map(|point| (x.place(point.0), y.place(point.1))).collect()
    }

    fn axes(&self, svg: &mut String, x: &Range, y: &Range) {
        for tick in x.ticks() {
            let at = x.place(tick);
            stroke(svg, "g", (at, BOTTOM), (at, TOP));
            text(svg, (at, BOTTOM + 16.0), "middle", &number(Some(tick)));
        }
        for tick in y.ticks() {
            let at = y.place(tick);
            stroke(svg, "g", (LEFT, at), (RIGHT, at));
            text(svg, (LEFT - 6.0, at + 4.0), "end", &number(Some(tick)));
        }
        stroke(svg, "a", (LEFT, BOTTOM), (RIGHT, BOTTOM));
        stroke(svg, "a", (LEFT, BOTTOM), (LEFT, TOP));
        text(svg, (f64::midpoint(LEFT, RIGHT), BOTTOM + 34.0), "middle", self.x.title);
        let turned =
            format!("middle\" transform=\"rotate(-90 16 {0:.1})", f64::midpoint(TOP, BOTTOM));
        text(svg, (16.0, f64::midpoint(TOP, BOTTOM)), &turned, self.y.title);
    }
}

fn draw(svg: &mut String, number: usize, pixels: &[(f64, f64)]) {
    let (colour, dash) = (COLOURS[number % COLOURS.len()], DASHES[number % DASHES.len()]);
    let path: Vec<String> = pixels.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    push(
        svg,
        format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
         stroke-dasharray=\"{dash}\"/>\n",
            path.join(" ")
        ),
    );
    for (x, y) in pixels {
        push(
            svg,
            format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\n"),
        );
    }
}

/// Three names in each of two rows below the axis.
fn legend(svg: &mut String, number: usize, name: &str) {
    let x = LEFT + (number % 3) as f64 * 184.0;
    let y = BOTTOM + 54.0 + (number / 3) as f64 * 18.0;
    draw(svg, number, &[(x, y - 4.0), (x + 24.0, y - 4.0)]);
    text(svg, (x + 32.0, y), "start", name);
}

fn stroke(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    push(
        svg,
        format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>\n",
            from.0, from.1, to.0, to.1
        ),
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let words = escaped(words);
    push(
        svg,
        format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>\n",
            at.0, at.1
        ),
    );
}

fn push(svg: &mut String, piece: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = svg.write_fmt(piece);
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(x: Scale, y: Scale, points: &[(f64, f64)]) -> String {
        let line = |name: &str| Line { name: name.into(), points: points.to_vec() };
        Chart {
            title: "a < b",
            x: Axis { title: "guests", scale: x },
            y: Axis { title: "µs", scale: y },
            lines: vec![line("one"), line("other & more")],
        }
        .svg()
    }

    /// The points of the first line.
    fn drawn(svg: &str) -> Vec<(f64, f64)> {
        let list = svg.split("<polyline points=\"").nth(1).unwrap().split('"').next().unwrap();
        let pair = |pair: &str| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        list.split_whitespace().map(pair).collect()
    }

    #[test]
    fn points_are_where_the_axes_say() {
        let svg = chart(Scale::Linear, Scale::Linear, &[(0.0, 0.0), (5.0, 10.0), (10.0, 20.0)]);
        let middle = (f64::midpoint(LEFT, RIGHT), f64::midpoint(BOTTOM, TOP));
        assert_eq!(drawn(&svg), [(LEFT, BOTTOM), middle, (RIGHT, TOP)]);
    }

    #[test]
    fn equal_ratios_are_equal_steps() {
        let svg =
            chart(Scale::Log, Scale::Log, &[(1.0, 1.0), (10.0, 1.0), (100.0, 5.0), (0.0, 5.0)]);
        let points = drawn(&svg);
        assert_eq!(points.len(), 3, "a value that is not positive is left out");
        assert!((points[1].0 - points[0].0 - (points[2].0 - points[1].0)).abs() < 0.2);
        assert!(
            points.iter().all(|(x, y)| (LEFT..=RIGHT).contains(x) && (TOP..=BOTTOM).contains(y))
        );
    }

    #[test]
    fn words_are_escaped_and_elements_balanced() {
        let svg = chart(Scale::Log, Scale::Linear, &[(1.0, 2.0), (400.0, 3.0)]);
        assert!(svg.contains("a &lt; b") && svg.contains("other &amp; more"));
        for name in ["text", "title", "svg", "style"] {
            let count = |what: String| svg.matches(&what).count();
            assert_eq!(count(format!("<{name}")), count(format!("</{name}>")), "{name}");
        }
        for tick in [">1<", ">10<", ">100<", ">200<"] {
            assert!(svg.contains(tick), "{tick}");
        }
    }

    #[test]
    fn nothing_to_show_is_an_empty_chart() {
        assert!(!chart(Scale::Log, Scale::Linear, &[]).contains("NaN"));
        assert!(!chart(Scale::Linear, Scale::Linear, &[(3.0, 0.0)]).contains("NaN"));
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([0.7, 1.0, 1.1, 23.0, 51.0].map(round_step), [1.0, 1.0, 2.0, 50.0, 100.0]);
    }
}
