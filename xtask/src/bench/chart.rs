//! Charts as SVG, to be put into a page whose style sheet says what ink looks like. Pure.
//!
//! Drawn by plotters without a font library: it only has to guess how wide a text is, the browser sets it.

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::number::show;
use super::peer::Peer;

/// Replaced by the page's own, light or dark.
pub(crate) const INK: RGBColor = RGBColor(1, 2, 3);
pub(crate) const GRID: RGBColor = RGBColor(4, 5, 6);

const WIDTH: u32 = 560;
const BAR_HEIGHT: usize = 30;
/// Caption, axis and its description.
const FRAME_HEIGHT: usize = 92;
const LINES_HEIGHT: u32 = 320;
const FONT: &str = "sans-serif";

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) color: RGBColor,
    pub(crate) value: f64,
    /// Quartiles, if there were several rounds.
    pub(crate) spread: Option<(f64, f64)>,
}

/// One line through its points.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) color: RGBColor,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What stands at an axis and above.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
}

/// The same in every chart.
pub(crate) const fn color(peer: Peer) -> RGBColor {
    match peer {
        Peer::Direct => RGBColor(128, 128, 128),
        Peer::Haproxy => RGBColor(224, 122, 0),
        Peer::Nftables => RGBColor(146, 96, 208),
        Peer::FairleadNat => RGBColor(31, 122, 214),
        Peer::FairleadDnat => RGBColor(18, 158, 140),
        Peer::FairleadDsr => RGBColor(94, 164, 44),
    }
}

/// Horizontal bars, the first on top, with their values and, as a thin line, their quartiles.
pub(crate) fn bars(title: &str, unit: &str, bars: &[Bar]) -> Result<String> {
    let mut svg = String::new();
    let height = u32::try_from(FRAME_HEIGHT + BAR_HEIGHT * bars.len())?;
    draw_bars(&mut svg, height, title, unit, bars).map_err(|error| anyhow!("{title}: {error}"))?;
    Ok(svg)
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw_bars(svg: &mut String, height: u32, title: &str, unit: &str, bars: &[Bar]) -> Drawn {
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    let ends = bars.iter().map(|bar| bar.spread.map_or(bar.value, |(_, high)| high));
    let most = ends.fold(0.0, f64::max);
    // Room for the value behind the longest bar.
    let most = if most > 0.0 { most * 1.22 } else { 1.0 };
    let count = i32::try_from(bars.len())?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 16).into_font().color(&INK))
        .margin(8)
        .x_label_area_size(42)
        .y_label_area_size(124)
        .build_cartesian_2d(0.0..most, (0..count).into_segmented())?;
    let name = |value: &SegmentValue<i32>| match value {
        SegmentValue::CenterOf(index) => {
            let bar = usize::try_from(count - 1 - index).ok().and_then(|index| bars.get(index));
            bar.map(|bar| bar.label.clone()).unwrap_or_default()
        }
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style((FONT, 13).into_font().color(&INK))
        .x_labels(6)
        .x_desc(unit)
        .x_label_formatter(&|value| show(*value))
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .draw()?;
    for (index, bar) in (0..count).zip(bars.iter().rev()) {
        let [below, above] = [index, index + 1].map(SegmentValue::Exact);
        let end = bar.value.max(0.0);
        let mut body = Rectangle::new([(0.0, below), (end, above)], bar.color.filled());
        body.set_margin(5, 5, 0, 0);
        chart.draw_series([body])?;
        let middle = SegmentValue::CenterOf(index);
        if let Some((low, high)) = bar.spread {
            let line = [(low.max(0.0), middle.clone()), (high.max(0.0), middle.clone())];
            chart.draw_series([PathElement::new(line, INK.stroke_width(2))])?;
        }
        let place = bar.spread.map_or(end, |(_, high)| high.max(end)) + most * 0.012;
        let style = (FONT, 13).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series([Text::new(show(bar.value), (place, middle), style)])?;
    }
    root.present()?;
    Ok(())
}

/// Lines over a logarithmic axis, each point marked.
pub(crate) fn lines(words: Words<'_>, lines: &[Line]) -> Result<String> {
    let mut svg = String::new();
    draw_lines(&mut svg, words, lines).map_err(|error| anyhow!("{}: {error}", words.title))?;
    Ok(svg)
}

fn draw_lines(svg: &mut String, words: Words<'_>, lines: &[Line]) -> Drawn {
    let root = SVGBackend::with_string(svg, (WIDTH, LINES_HEIGHT)).into_drawing_area();
    let points = || lines.iter().flat_map(|line| &line.points);
    let least_x = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let most_x = points().map(|point| point.0).fold(1.0, f64::max);
    let most_y = points().map(|point| point.1).fold(0.0, f64::max);
    let most_y = if most_y > 0.0 { most_y * 1.15 } else { 1.0 };
    let least_x = if least_x.is_finite() { least_x.max(1.0) } else { 1.0 };
    let mut chart = ChartBuilder::on(&root)
        .caption(words.title, (FONT, 16).into_font().color(&INK))
        .margin(8)
        .margin_right(24)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d((least_x..most_x.max(least_x * 2.0)).log_scale(), 0.0..most_y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style((FONT, 13).into_font().color(&INK))
        .x_labels(8)
        .y_labels(6)
        .x_desc(words.x)
        .y_desc(words.y)
        .x_label_formatter(&|value| super::number::whole(*value))
        .y_label_formatter(&|value| show(*value))
        .draw()?;
    for line in lines {
        let color = line.color;
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
            .label(line.label.clone())
            .legend(move |(x, y)| Circle::new((x + 8, y), 5, color.filled()));
        let marks = line.points.iter().map(|point| Circle::new(*point, 4, color.filled()));
        chart.draw_series(marks)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 13).into_font().color(&INK))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_names_values_and_the_unit() {
        let bar = |peer: Peer, value| Bar {
            label: peer.label().to_owned(),
            color: color(peer),
            value,
            spread: Some((value * 0.9, value * 1.1)),
        };
        let all = [bar(Peer::Haproxy, 3.4), bar(Peer::FairleadNat, 4.0)];
        let svg = bars("throughput", "Gbit/s", &all).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for words in ["throughput", "Gbit/s", "HAProxy", "Fairlead nat", "3.40", "4.00"] {
            assert!(svg.contains(words), "no {words} in {svg}");
        }
        for color in ["#E07A00", "#1F7AD6"] {
            assert!(svg.contains(color), "no {color} in {svg}");
        }
    }

    #[test]
    fn nothing_and_zero_can_be_drawn() {
        assert!(bars("nothing", "s", &[]).is_ok());
        let zero = Bar { label: "zero".into(), color: INK, value: 0.0, spread: None };
        assert!(bars("zero", "s", &[zero]).unwrap().contains("0.00"));
        let words = Words { title: "none", x: "flows", y: "ns" };
        assert!(lines(words, &[]).is_ok());
    }

    #[test]
    fn lines_have_a_legend_and_both_axes_described() {
        let line = Line {
            label: "requests".into(),
            color: color(Peer::FairleadNat),
            points: vec![(1e3, 50.0), (1e6, 140.0)],
        };
        let svg = lines(Words { title: "cost", x: "flows", y: "ns" }, &[line]).unwrap();
        for words in ["cost", "flows", "ns", "requests"] {
            assert!(svg.contains(words), "no {words} in {svg}");
        }
    }
}
