//! Bars with whiskers, as SVG: a bar ends at the median, its whisker spans all rounds. And lines
//! over sizes.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::statistics::Spread;

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    /// Bars of one group stand together.
    pub(crate) group: String,
    /// Bars of one name have one colour.
    pub(crate) name: String,
    pub(crate) spread: Spread,
}

/// Half a bar's width; bars stand at a distance of 1, groups with a gap of 1 between them.
const HALF: f64 = 0.38;

/// Okabe and Ito's palette, which most colour-blind readers can tell apart, and two more.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(240, 228, 66),
    RGBColor(128, 128, 128),
    RGBColor(120, 80, 50),
    RGBColor(190, 190, 230),
];

/// Draws the bars in the order given. Nothing is drawn without any.
pub(crate) fn bars(path: &Path, title: &str, unit: &str, bars: &[Bar]) -> Result<()> {
    if bars.is_empty() {
        return Ok(());
    }
    draw(path, title, unit, bars)
        .map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn draw(
    path: &Path,
    title: &str,
    unit: &str,
    bars: &[Bar],
) -> Result<(), Box<dyn std::error::Error>> {
    let places = places(bars);
    let right = places.last().map_or(1.0, |place| place + 1.0);
    let top = bars.iter().map(|bar| bar.spread.max).fold(0.0, f64::max) * 1.15;
    let width = 220 + 100 * bars.len() as u32;

    let root = SVGBackend::new(path, (width, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(-1.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .y_desc(unit)
        .draw()?;

    let mut names: Vec<&str> = Vec::new();
    for (bar, &place) in bars.iter().zip(&places) {
        let index = names.iter().position(|name| *name == bar.name).unwrap_or_else(|| {
            names.push(&bar.name);
            names.len() - 1
        });
        let colour = COLOURS[index % COLOURS.len()];
        let Spread { median, min, max } = bar.spread;
        let corners = [(place - HALF, 0.0), (place + HALF, median)];
        chart.draw_series([Rectangle::new(corners, colour.filled())])?;
        chart.draw_series([
            PathElement::new([(place, min), (place, max)], BLACK),
            PathElement::new([(place - 0.1, min), (place + 0.1, min)], BLACK),
            PathElement::new([(place - 0.1, max), (place + 0.1, max)], BLACK),
        ])?;
        let text = |text: String, x: f64, y: f64| Text::new(text, (x, y), ("sans-serif", 12));
        chart.draw_series([
            text(format!("{median:.3}"), place - HALF, max + top * 0.045),
            text(bar.group.clone(), place - HALF, top * 0.075),
            text(bar.name.clone(), place - HALF, top * 0.035),
        ])?;
    }
    root.present()?;
    Ok(())
}

/// The middle of each bar.
fn places(bars: &[Bar]) -> Vec<f64> {
    let mut place = 0.0;
    let mut group = bars.first().map(|bar| &bar.group);
    let mut places = Vec::new();
    for bar in bars {
        if group != Some(&bar.group) {
            place += 1.0;
            group = Some(&bar.group);
        }
        places.push(place);
        place += 1.0;
    }
    places
}

/// Figures over sizes.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Lines of one colour belong together.
    pub(crate) colour: usize,
    /// Thinner, and with hollow points.
    pub(crate) is_second: bool,
    /// Bytes, and the figure.
    pub(crate) points: Vec<(u64, f64)>,
}

/// What stands along the axes of lines. Below, the binary logarithm of a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axes<'a> {
    /// What the numbers below count.
    pub(crate) below: &'a str,
    /// How one of them is written.
    pub(crate) label: fn(u64) -> String,
    /// The unit of the figures.
    pub(crate) unit: &'a str,
    /// Whether figures grow by powers of ten, for those that span several.
    pub(crate) is_logarithmic: bool,
}

impl<'a> Axes<'a> {
    /// Figures over the sizes of files.
    pub(crate) fn sizes(unit: &'a str) -> Self {
        Self { below: "size of the file", label: size_label, unit, is_logarithmic: false }
    }

    /// The same, growing by powers of ten.
    pub(crate) fn logarithmic(self) -> Self {
        Self { is_logarithmic: true, ..self }
    }

    /// Where a figure stands. What is too small for a logarithm stands at a thousandth.
    fn place(self, figure: f64) -> f64 {
        if self.is_logarithmic { figure.max(1e-3).log10() } else { figure }
    }

    /// What is written there.
    fn figure(self, place: f64) -> String {
        match (self.is_logarithmic, 10_f64.powf(place)) {
            (true, figure) if figure < 1.0 => format!("{figure:.2}"),
            (true, figure) => format!("{figure:.0}"),
            (false, _) => format!("{place}"),
        }
    }
}

/// Draws lines over sizes. Nothing is drawn without a point.
pub(crate) fn lines(path: &Path, title: &str, unit: &str, lines: &[Line]) -> Result<()> {
    lines_over(path, title, Axes::sizes(unit), lines)
}

/// Draws lines. Nothing is drawn without a point.
pub(crate) fn lines_over(path: &Path, title: &str, axes: Axes<'_>, lines: &[Line]) -> Result<()> {
    if lines.iter().all(|line| line.points.is_empty()) {
        return Ok(());
    }
    draw_lines(path, title, axes, lines)
        .map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn draw_lines(
    path: &Path,
    title: &str,
    axes: Axes<'_>,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let place = |size: u64| (size as f64).log2();
    let left = points().map(|&(size, _)| place(size)).fold(f64::INFINITY, f64::min) - 0.3;
    let right = points().map(|&(size, _)| place(size)).fold(0.0, f64::max) + 0.3;
    let figures = || points().map(|&(_, figure)| axes.place(figure));
    let top = figures().fold(f64::NEG_INFINITY, f64::max);
    let bottom = figures().fold(f64::INFINITY, f64::min);
    let heights =
        if axes.is_logarithmic { bottom - 0.2..top + 0.2 } else { 0.0..top.max(0.0) * 1.1 };

    let root = SVGBackend::new(path, (900, 460)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .margin_right(270)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(left..right, heights)?;
    let label = |exponent: &f64| (axes.label)(exponent.exp2().round() as u64);
    let figure = |place: &f64| axes.figure(*place);
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        // More would run into one another: then every second power is written.
        .x_labels(((right - left).ceil() as usize + 1).min(13))
        .x_label_formatter(&label)
        .x_desc(axes.below)
        .y_desc(axes.unit);
    if axes.is_logarithmic {
        mesh.y_label_formatter(&figure);
    }
    mesh.draw()?;
    let mut legend = 0;
    for Line { name, colour, is_second, points } in lines {
        let Some(&(_, last)) = points.last() else { continue };
        let colour = COLOURS[colour % COLOURS.len()];
        let style = colour.stroke_width(if *is_second { 1 } else { 2 });
        let fill = if *is_second { WHITE.filled() } else { colour.filled() };
        let places = || points.iter().map(|&(size, figure)| (place(size), axes.place(figure)));
        chart.draw_series([PathElement::new(places().collect::<Vec<_>>(), style)])?;
        chart.draw_series(places().map(|at| Circle::new(at, 3, fill)))?;
        chart.draw_series(places().map(|at| Circle::new(at, 3, colour.stroke_width(1))))?;
        // Beside the plot, in the order of the lines.
        let (x, y) = (640, 56 + 20 * legend);
        root.draw(&PathElement::new([(x, y), (x + 24, y)], style))?;
        root.draw(&Circle::new((x + 12, y), 3, fill))?;
        root.draw(&Circle::new((x + 12, y), 3, colour.stroke_width(1)))?;
        let text = format!("{name} ({last:.2})");
        root.draw(&Text::new(text, (x + 30, y - 6), ("sans-serif", 12)))?;
        legend += 1;
    }
    root.present()?;
    Ok(())
}

/// `64 KiB`.
pub(crate) fn size_label(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(group: &str, name: &str) -> Bar {
        let spread = Spread { median: 2.0, min: 1.0, max: 3.0 };
        Bar { group: group.into(), name: name.into(), spread }
    }

    #[test]
    fn groups_stand_apart() {
        assert_eq!(places(&[bar("lo", "a"), bar("lo", "b"), bar("veth", "a")]), [0.0, 1.0, 3.0]);
    }

    #[test]
    fn a_plot_names_its_bars() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plot.svg");
        bars(&path, "Title", "µs", &[bar("lo", "nginx"), bar("veth", "nginx")]).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.contains("veth") && svg.contains("nginx") && svg.contains("Title"));
    }

    #[test]
    fn a_plot_over_sizes_names_its_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plot.svg");
        let line = |name: &str, is_second, points| Line {
            name: name.into(),
            colour: 1,
            is_second,
            points,
        };
        lines(&path, "T", "µs", &[line("none", false, Vec::new())]).unwrap();
        assert!(!path.exists());
        let points = vec![(4 << 10, 3.0), (1 << 20, 90.0)];
        lines(&path, "T", "µs", &[line("copy", false, points.clone()), line("set", true, points)])
            .unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.contains("copy") && svg.contains("set") && svg.contains("KiB"));
    }

    #[test]
    fn figures_that_span_powers_of_ten_stand_at_their_logarithm() {
        let axes = Axes::sizes("µs").logarithmic();
        assert_eq!((axes.place(100.0), axes.place(0.0)), (2.0, -3.0));
        assert_eq!((axes.figure(3.0), axes.figure(-1.0)), ("1000".into(), "0.10".into()));
    }

    #[test]
    fn sizes_are_told_in_binary_units() {
        assert_eq!(size_label(96 << 10), "96 KiB");
        assert_eq!(size_label(2 << 20), "2 MiB");
        assert_eq!(size_label(100), "100 B");
        assert_eq!(size_label(4 << 30), "4 GiB");
    }
}
