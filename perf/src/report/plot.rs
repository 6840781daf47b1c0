//! Plots as inline SVG: grouped bars with their spread, and latency over percentiles. No script, no font, nothing from elsewhere.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Width of every plot.
const WIDTH: f64 = 900.0;
/// Space for the names at the left of bars.
const NAMES: f64 = 150.0;
/// Space for the numbers at the right of bars.
const NUMBERS: f64 = 130.0;
const BAR: f64 = 13.0;
const GAP: f64 = 10.0;
const AXIS: f64 = 22.0;

/// One bar: whose (a number for its colour), its length, and the spread of the rounds.
pub struct Bar {
    pub series: usize,
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// What stands beside it.
    pub label: String,
}

/// A logarithmic scale from whole power of ten to whole power of ten.
struct Scale {
    from: f64,
    to: f64,
    pixels: f64,
}

impl Scale {
    /// One that holds all of `values` with some room below the smallest.
    fn over(values: impl Iterator<Item = f64>, pixels: f64) -> Option<Scale> {
        let logarithms: Vec<f64> = values.filter(|value| *value > 0.0 && value.is_finite()).map(f64::log10).collect();
        let low = logarithms.iter().copied().min_by(f64::total_cmp)?;
        let high = logarithms.iter().copied().max_by(f64::total_cmp)?;
        let from = (low - 0.2).floor();
        Some(Scale { from, to: high.ceil().max(from + 1.0), pixels })
    }

    fn at(&self, value: f64) -> f64 {
        ((value.max(f64::MIN_POSITIVE).log10() - self.from) / (self.to - self.from)).clamp(0.0, 1.0) * self.pixels
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.from as i32..=self.to as i32).map(|power| 10_f64.powi(power))
    }
}

/// Groups of horizontal bars on a logarithmic scale; `tick` names a power of ten.
pub fn bars(groups: &[(String, Vec<Bar>)], tick: fn(f64) -> String) -> String {
    let all = || groups.iter().flat_map(|(_, bars)| bars);
    let Some(scale) = Scale::over(all().map(|bar| bar.median), WIDTH - NAMES - NUMBERS) else { return String::new() };
    let height = AXIS + groups.iter().map(|(_, bars)| bars.len() as f64 * BAR + GAP).sum::<f64>();
    let mut svg = open(height);
    for value in scale.powers() {
        let x = NAMES + scale.at(value);
        line(&mut svg, "grid", [x, AXIS - 6.0, x, height]);
        text(&mut svg, x, AXIS - 9.0, "middle", &tick(value));
    }
    let mut y = AXIS;
    for (name, bars) in groups {
        text(&mut svg, NAMES - 8.0, y + bars.len() as f64 * BAR / 2.0 + 4.0, "end", name);
        for bar in bars {
            let width = scale.at(bar.median);
            // Writing to a string cannot fail; here and below.
            let _ = write!(
                svg,
                r#"<rect class="s{}" x="{NAMES}" y="{y:.1}" width="{:.1}" height="{:.1}"/>"#,
                bar.series,
                width.max(1.0),
                BAR - 2.0
            );
            let middle = y + BAR / 2.0 - 1.0;
            if bar.high > bar.low {
                line(&mut svg, "spread", [NAMES + scale.at(bar.low), middle, NAMES + scale.at(bar.high), middle]);
            }
            text(&mut svg, NAMES + scale.at(bar.high.max(bar.median)) + 5.0, middle + 4.0, "start", &bar.label);
            y += BAR;
        }
        y += GAP;
    }
    svg + "</svg>"
}

/// Percentiles that are marked on the axis.
const MARKS: [(f64, &str); 7] =
    [(0.0, "0"), (50.0, "50 %"), (90.0, "90 %"), (99.0, "99 %"), (99.9, "99.9 %"), (99.99, "99.99 %"), (99.999, "99.999 %")];
const CURVE_HEIGHT: f64 = 240.0;
/// Points of a curve.
const POINTS: usize = 160;

/// Latency, in nanoseconds, over percentiles; the axis stretches what is rare. Stops where a histogram has no more to say.
pub fn latencies(curves: &[(usize, Histogram<u64>)], tick: fn(f64) -> String) -> String {
    const LEFT: f64 = 70.0;
    const BOTTOM: f64 = 24.0;
    let us = |histogram: &Histogram<u64>, percentile: f64| histogram.value_at_percentile(percentile) as f64 / 1e3;
    let ends = curves.iter().flat_map(|(_, histogram)| [us(histogram, 0.0), us(histogram, 100.0)]);
    let Some(scale) = Scale::over(ends, CURVE_HEIGHT - BOTTOM - 8.0) else { return String::new() };
    let nines = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    let most = nines(MARKS[MARKS.len() - 1].0);
    let x = |nines: f64| LEFT + nines / most * (WIDTH - LEFT - 40.0);
    let y = |us: f64| CURVE_HEIGHT - BOTTOM - scale.at(us);
    let mut svg = open(CURVE_HEIGHT);
    for value in scale.powers() {
        line(&mut svg, "grid", [LEFT, y(value), WIDTH - 40.0, y(value)]);
        text(&mut svg, LEFT - 6.0, y(value) + 4.0, "end", &tick(value));
    }
    for (percentile, name) in MARKS {
        line(&mut svg, "grid", [x(nines(percentile)), 8.0, x(nines(percentile)), CURVE_HEIGHT - BOTTOM]);
        text(&mut svg, x(nines(percentile)), CURVE_HEIGHT - 6.0, "middle", name);
    }
    for (series, histogram) in curves {
        // One message in so many is the rarest that can be told.
        let last = (histogram.len() as f64).log10().min(most);
        let _ = write!(svg, r#"<polyline class="l{series}" points=""#);
        for point in 0..=POINTS {
            let at = last * point as f64 / POINTS as f64;
            let percentile = 100.0 * (1.0 - 10_f64.powf(-at));
            let _ = write!(svg, "{:.1},{:.1} ", x(at), y(us(histogram, percentile)));
        }
        svg.push_str(r#""/>"#);
    }
    svg + "</svg>"
}

fn open(height: f64) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img">"#)
}

fn line(svg: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = write!(svg, r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = write!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#, escape(text));
}

/// Text inside HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_ten_times_as_long_is_one_power_further() {
        let scale = Scale::over([0.5, 50.0].into_iter(), 300.0).unwrap();
        assert_eq!((scale.from, scale.to), (-1.0, 2.0));
        assert!((scale.at(10.0) - scale.at(1.0) - 100.0).abs() < 1e-9);
        assert!(Scale::over([0.0, f64::NAN].into_iter(), 300.0).is_none());
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let bar = Bar { series: 0, median: 1.0, low: 1.0, high: 2.0, label: "<b>".to_owned() };
        let svg = bars(&[("<script>".to_owned(), vec![bar])], |value| value.to_string());
        assert!(svg.contains("&lt;script&gt;") && svg.contains("&lt;b&gt;") && !svg.contains("<script"));
    }
}
