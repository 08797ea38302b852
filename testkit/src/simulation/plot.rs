//! Plots as SVG, written by hand: two axes, a few lines.

use std::fmt::Write as _;

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is, for the legend.
    pub name: String,
    /// Its points, by x.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x: String,
    /// Beside it.
    pub y: String,
    /// What it shows.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const COLOURS: [&str; 6] = ["#1b6ca8", "#c8553d", "#3a7d44", "#8a5a9e", "#b08900", "#555555"];

/// All plots below each other, as one picture.
#[must_use]
pub fn svg(plots: &[Plot]) -> String {
    let (width, row) = (WIDTH + LEFT + 30.0, HEIGHT + 100.0);
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
        row * plots.len().max(1) as f64
    );
    for (place, plot) in plots.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({LEFT},{})\">", row * place as f64 + TOP);
        draw(&mut svg, plot);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, plot: &Plot) {
    let points = || plot.lines.iter().flat_map(|line| &line.points);
    let right = nice(points().map(|(x, _)| *x).fold(0.0, f64::max));
    let top = nice(points().map(|(_, y)| *y).fold(0.0, f64::max));
    let (x, y) = (|value: f64| value / right * WIDTH, |value: f64| HEIGHT - value / top * HEIGHT);
    let _ = writeln!(svg, "<text x=\"0\" y=\"-16\" font-size=\"15\">{}</text>", escaped(&plot.title));
    for step in 0..=5 {
        let part = f64::from(step) / 5.0;
        let (across, up) = (x(right * part), y(top * part));
        let _ = writeln!(svg, "<line x1=\"0\" x2=\"{WIDTH}\" y1=\"{up:.1}\" y2=\"{up:.1}\" stroke=\"#e4e4e4\"/>");
        let _ = writeln!(svg, "<text x=\"-8\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", up + 4.0, number(top * part));
        let _ = writeln!(
            svg,
            "<text x=\"{across:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT + 18.0,
            number(right * part)
        );
    }
    let _ = writeln!(svg, "<path d=\"M0,0 V{HEIGHT} H{WIDTH}\" fill=\"none\" stroke=\"#444\"/>");
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        WIDTH / 2.0,
        HEIGHT + 38.0,
        escaped(&plot.x)
    );
    let _ = writeln!(
        svg,
        "<text transform=\"translate(-52,{}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        HEIGHT / 2.0,
        escaped(&plot.y)
    );
    for ((line, colour), place) in plot.lines.iter().zip(COLOURS.iter().cycle()).zip(0_i32..) {
        let path: Vec<_> = line.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
            path.join(" ")
        );
        let legend = 12.0 + f64::from(place) * 16.0;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{legend}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
            WIDTH - 6.0,
            escaped(&line.name)
        );
    }
}

/// The next number of one digit and a half.
fn nice(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value * 0.999_999).unwrap_or(value)
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The part of the values that lie below each of them: a distribution as a line.
#[must_use]
pub fn distribution(name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Line {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len().max(1) as f64;
    let points = values.iter().enumerate().map(|(place, value)| (*value, (place + 1) as f64 / count));
    // A few hundred points are as good as a million.
    let step = (values.len() / 500).max(1);
    Line { name: name.into(), points: points.step_by(step).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_one_picture_that_holds_its_lines_and_escapes_its_words() {
        let line = distribution("a<b", [3.0, 1.0, 2.0]);
        assert_eq!(line.points.iter().map(|(x, _)| *x).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
        let plot = Plot { title: "t".into(), x: "x".into(), y: "y".into(), lines: vec![line] };
        let picture = svg(&[plot]);
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
        assert_eq!((picture.matches("<polyline").count(), picture.matches("a&lt;b").count()), (1, 1));
    }
}
