//! Charts of a few pixels, as SVG within the page.

use std::fmt::Write;

use crate::admin::history::WINDOW;

/// Units of the drawing; the page stretches it.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;
/// Room for half a line above and below.
const EDGE: f64 = 1.5;

/// The last minute of a rate: points by how many seconds ago, oldest first.
/// `label` says for those who do not see it what is drawn.
pub(super) fn sparkline(out: &mut String, label: &str, points: &[(f64, f64)]) {
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<svg class=\"spark\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-label=\"{label}\">"
    );
    let peak = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let place = |&(ago, value): &(f64, f64)| {
        let x = WIDTH * (1.0 - ago / WINDOW.as_secs_f64()).clamp(0.0, 1.0);
        let height = if peak > 0.0 { value / peak } else { 0.0 };
        (x, HEIGHT - EDGE - (HEIGHT - 2.0 * EDGE) * height.clamp(0.0, 1.0))
    };
    if let [first, .., last] = points {
        let mut line = String::with_capacity(points.len() * 14);
        for point in points {
            let (x, y) = place(point);
            let command = if line.is_empty() { 'M' } else { 'L' };
            let _ = write!(line, "{command}{x:.1} {y:.1}");
        }
        let (start, end) = (place(first).0, place(last).0);
        let _ = write!(
            out,
            "<path class=\"area\" d=\"{line}L{end:.1} {HEIGHT}L{start:.1} {HEIGHT}Z\"/>\
             <path class=\"line\" d=\"{line}\"/>"
        );
    }
    out.push_str("</svg>");
}

/// Parts of a whole side by side, by class and share (0 to 1). Nothing at all
/// is an empty bar.
pub(super) fn bar<'a>(out: &mut String, parts: impl IntoIterator<Item = (&'a str, f64)>) {
    out.push_str(
        "<svg class=\"bar\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
    );
    let mut from = 0.0;
    for (class, share) in parts {
        let width = (share.clamp(0.0, 1.0) * 100.0).min(100.0 - from);
        if width > 0.0 {
            let _ = write!(
                out,
                "<rect class=\"{class}\" x=\"{from:.3}\" width=\"{width:.3}\" height=\"1\"/>"
            );
            from += width;
        }
    }
    out.push_str("</svg>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(path: &str) -> Vec<f64> {
        let words = path.split(|char: char| !(char.is_ascii_digit() || char == '.' || char == '-'));
        words.filter_map(|word| word.parse().ok()).collect()
    }

    fn line(points: &[(f64, f64)]) -> Vec<f64> {
        let mut out = String::new();
        sparkline(&mut out, "label", points);
        let line = out.split("class=\"line\" d=\"").nth(1).unwrap_or_default();
        numbers(line.split('"').next().unwrap())
    }

    #[test]
    fn a_line_goes_from_left_to_right_and_within_its_frame() {
        assert_eq!(
            line(&[(60.0, 0.0), (30.0, 50.0), (0.0, 100.0)]),
            [0.0, 46.5, 120.0, 24.0, 240.0, 1.5]
        );
        // Nothing at all is a line at the bottom, not a division by zero.
        assert_eq!(line(&[(1.0, 0.0), (0.0, 0.0)]), [236.0, 46.5, 240.0, 46.5]);
        assert!(line(&[]).is_empty());
        assert!(line(&[(1.0, 1.0)]).is_empty(), "one point is no line");
        assert_eq!(line(&[(90.0, 1.0), (0.0, f64::MAX)]), [0.0, 46.5, 240.0, 1.5]);
    }

    #[test]
    fn a_bar_is_never_longer_than_its_whole() {
        let mut out = String::new();
        bar(&mut out, [("a", 0.5), ("b", 0.0), ("c", 0.75)]);
        assert!(out.contains("<rect class=\"a\" x=\"0.000\" width=\"50.000\""));
        assert!(out.contains("<rect class=\"c\" x=\"50.000\" width=\"50.000\""));
        assert_eq!(out.matches("<rect").count(), 2);
    }
}
