//! Plots as SVG and as pixels.

use image::DynamicImage;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::raster;
use crate::report::RenderError;
use crate::report::plot::{Plot, SeriesColour};
use crate::report::trace::Bin;

/// Width and height of a plot in plot units, which are CSS pixels.
const SIZE: (u32, u32) = (760, 420);
/// Drawing units per plot unit. The `plotters` crate rounds positions to whole drawing units.
const FINENESS: i32 = 8;
/// Pixels of a PNG per plot unit.
const PIXELS_PER_UNIT: f32 = 2.0;

/// The colour of axes, tick labels and reference levels.
const GREY: RGBColor = RGBColor(90, 90, 90);

/// A curve with fewer bins than this number is drawn without smoothing, with a dot for each bin.
const MIN_SMOOTHED_BINS: usize = 40;
/// The window of the moving mean is the number of bins divided by this number.
const WINDOWS: usize = 50;

impl SeriesColour {
    fn rgb(self) -> RGBColor {
        match self {
            Self::Blue => RGBColor(0, 114, 178),
            Self::Vermilion => RGBColor(213, 94, 0),
            Self::Green => RGBColor(0, 133, 98),
        }
    }
}

impl Plot<'_> {
    /// Renders the plot as the text of an SVG file.
    pub fn svg(&self) -> Result<String, RenderError> {
        let fine = (SIZE.0 * FINENESS as u32, SIZE.1 * FINENESS as u32);
        let mut svg = String::new();
        self.draw(&SVGBackend::with_string(&mut svg, fine).into_drawing_area())
            .map_err(|error| RenderError(error.to_string()))?;
        let size = |(width, height): (u32, u32)| format!("width=\"{width}\" height=\"{height}\"");
        Ok(svg.replacen(&size(fine), &size(SIZE), 1)) // the view box keeps the drawing units
    }

    /// Renders the SVG of a plot as pixels.
    pub fn pixels(svg: &str) -> Result<DynamicImage, RenderError> {
        raster::rasterise(svg, PIXELS_PER_UNIT)
    }

    fn draw(
        &self,
        sheet: &DrawingArea<SVGBackend, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let font = |size: i32, colour: &RGBColor| ("sans-serif", units(size)).into_font().color(colour);
        let (from, to) = self.horizontal_range();
        let (bottom, top) = self.vertical_range();

        sheet.fill(&WHITE)?;
        sheet.draw(&Text::new(self.title, (units(20), units(12)), font(26, &BLACK)))?;
        let mut chart = ChartBuilder::on(sheet)
            .margin_top(units(76))
            .margin_right(units(24))
            .margin_bottom(units(8))
            .margin_left(units(8))
            .x_label_area_size(units(46))
            .y_label_area_size(units(70))
            .build_cartesian_2d(from..to, bottom..top)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .axis_desc_style(font(19, &BLACK))
            .label_style(font(17, &GREY))
            .x_labels(10)
            .y_labels(6)
            .x_label_formatter(&|x| if x.fract() == 0.0 { format!("{x:.0}") } else { String::new() })
            .axis_style(ShapeStyle::from(&GREY).stroke_width(units(1) as u32))
            .bold_line_style(ShapeStyle::from(&RGBColor(225, 225, 225)).stroke_width(units(1) as u32))
            .light_line_style(TRANSPARENT)
            .set_all_tick_mark_size(units(4))
            .draw()?;

        if let Some((level, _)) = self.level {
            let dashes = DashedLineSeries::new(
                [(from, level), (to, level)],
                units(6),
                units(5),
                ShapeStyle::from(&GREY).stroke_width(units(1) as u32),
            );
            chart.draw_series(dashes)?;
        }
        for series in &self.series {
            let colour = series.colour.rgb();
            let (bins, width) = (series.trace.bins(), series.trace.width());
            let x = |at: usize| bins[at].position() / self.positions_per_x;
            let line = |values: &[f64]| (0..bins.len()).map(|at| (x(at), values[at])).collect::<Vec<_>>();
            let means = line(&series.trace.smoothed(0));
            let thick = ShapeStyle::from(&colour).stroke_width(units(2) as u32);
            if bins.len() < MIN_SMOOTHED_BINS {
                let dots = means.iter().map(|&point| Circle::new(point, units(3), colour.filled()));
                chart.draw_series(dots)?;
                chart.draw_series(LineSeries::new(means, thick))?;
                continue;
            }
            if width == 1 {
                let thin = ShapeStyle::from(&colour.mix(0.35)).stroke_width(units(1) as u32);
                chart.draw_series(LineSeries::new(means, thin))?;
            } else {
                let there = (0..bins.len()).map(|at| (x(at), f64::from(bins[at].high)));
                let back = (0..bins.len()).rev().map(|at| (x(at), f64::from(bins[at].low)));
                let band = Polygon::new(there.chain(back).collect::<Vec<_>>(), colour.mix(0.25).filled());
                chart.draw_series([band])?;
            }
            chart.draw_series(LineSeries::new(line(&series.trace.smoothed(reach(bins.len()))), thick))?;
        }
        self.draw_legend(sheet)?;
        sheet.present()
    }

    /// Draws the legend above the curves, and the explanation of pale and strong lines in the bottom right corner.
    fn draw_legend(
        &self,
        sheet: &DrawingArea<SVGBackend, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let font = ("sans-serif", units(18)).into_font();
        let middle = Pos::new(HPos::Left, VPos::Center);
        // The font of the viewer is not known. Few fonts need more than 8 units per letter at this size.
        let room = |text: &str| units(8) * text.chars().count() as i32;
        let (mut x, y) = (units(20), units(56));
        for series in &self.series {
            let colour = series.colour.rgb();
            let line = vec![(x, y), (x + units(24), y)];
            sheet.draw(&PathElement::new(line, ShapeStyle::from(&colour).stroke_width(units(3) as u32)))?;
            x += units(30);
            sheet.draw(&Text::new(series.name, (x, y), font.color(&BLACK).pos(middle)))?;
            x += room(series.name) + units(20);
        }
        if let Some((_, name)) = self.level {
            for dash in [0, 9, 18] {
                let line = vec![(x + units(dash), y), (x + units(dash + 6), y)];
                sheet.draw(&PathElement::new(line, ShapeStyle::from(&GREY).stroke_width(units(1) as u32)))?;
            }
            x += units(30);
            sheet.draw(&Text::new(name, (x, y), font.color(&GREY).pos(middle)))?;
        }
        let corner = (units(SIZE.0 as i32 - 24), units(SIZE.1 as i32 - 8));
        let small = ("sans-serif", units(16)).into_font().color(&GREY).pos(Pos::new(HPos::Right, VPos::Bottom));
        sheet.draw(&Text::new(self.smoothing_note(), corner, small))
    }

    /// The explanation of the pale and the strong line. Empty if no curve is smoothed.
    fn smoothing_note(&self) -> String {
        let longest = self.series.iter().map(|series| series.trace).max_by_key(|trace| trace.bins().len());
        let Some(trace) = longest.filter(|trace| trace.bins().len() >= MIN_SMOOTHED_BINS) else { return String::new() };
        let together = (2 * reach(trace.bins().len()) as u64 + 1) * trace.width();
        match trace.width() {
            1 => format!("pale: each {}; line: mean of {together}", self.x),
            width => format!("pale: range of {width} {}s; line: mean of {together}", self.x),
        }
    }

    fn horizontal_range(&self) -> (f64, f64) {
        let bins = self.series.iter().flat_map(|series| series.trace.bins());
        let x = bins.map(|bin| bin.position() / self.positions_per_x);
        let (from, to) = x.fold((f64::INFINITY, f64::NEG_INFINITY), |(from, to), x| (from.min(x), to.max(x)));
        widened(from, to, 0.0)
    }

    fn vertical_range(&self) -> (f64, f64) {
        if let Some([bottom, top]) = self.range {
            return (bottom, top);
        }
        let bins = self.series.iter().flat_map(|series| series.trace.bins());
        let ends = |(low, high): (f64, f64), bin: &Bin| (low.min(bin.low.into()), high.max(bin.high.into()));
        // Losses and distances are easier to compare if the axis begins at 0.
        let (low, high) = bins.fold((0.0, f64::NEG_INFINITY), ends);
        widened(low, high, 0.05)
    }
}

/// Half the window of the moving mean: the number of bins on each side of the centre.
fn reach(bins: usize) -> usize {
    bins / WINDOWS / 2 + 1
}

/// Widens a range by `share` of its length at each end, except at 0. The result is never empty.
fn widened(low: f64, high: f64, share: f64) -> (f64, f64) {
    if low > high {
        return (0.0, 1.0); // there are no values
    }
    let length = high - low;
    if length <= 0.0 {
        return (low - 0.5, high + 0.5);
    }
    let margin = |end: f64| if end.abs() > 0.0 { length * share } else { 0.0 };
    (low - margin(low), high + margin(high))
}

/// Converts plot units to drawing units.
fn units(length: i32) -> i32 {
    length * FINENESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::Series;
    use crate::report::trace::Trace;

    fn trace(values: impl IntoIterator<Item = f32>) -> Trace {
        let mut trace = Trace::default();
        (1..).zip(values).for_each(|(position, value)| trace.push(position, value));
        trace
    }

    fn plot<'a>(traces: &[&'a Trace]) -> Plot<'a> {
        let looks = [
            ("first <curve>", SeriesColour::Blue),
            ("second", SeriesColour::Vermilion),
            ("third", SeriesColour::Green),
        ];
        let series = looks.iter().zip(traces).map(|(&(name, colour), &trace)| Series { name, colour, trace });
        Plot {
            title: "A & B",
            x: "step",
            y: "loss (nats)",
            positions_per_x: 1.0,
            range: None,
            level: Some((0.5, "in the middle")),
            series: series.collect(),
        }
    }

    /// The texts of an SVG. Panics if it is not well-formed.
    fn texts(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).unwrap();
        let texts = document.descendants().filter(|node| node.has_tag_name("text"));
        texts.map(|node| node.text().unwrap_or_default().trim().to_string()).collect()
    }

    fn pixels_of(colour: SeriesColour, image: &DynamicImage) -> usize {
        let RGBColor(r, g, b) = colour.rgb();
        image.to_rgb8().pixels().filter(|pixel| pixel.0 == [r, g, b]).count()
    }

    #[test]
    fn a_plot_is_well_formed_and_labelled() {
        let (one, two) = (trace((0..100).map(|at| at as f32)), trace([3.0; 100]));
        let svg = plot(&[&one, &two]).svg().unwrap();
        let texts = texts(&svg);
        for text in ["A & B", "step", "loss (nats)", "first <curve>", "second", "in the middle", "100", "0.0"] {
            assert!(texts.iter().any(|there| there == text), "{text} is not in {texts:?}");
        }
        assert!(texts.iter().any(|text| text == "pale: each step; line: mean of 5"), "{texts:?}");
        let document = roxmltree::Document::parse(&svg).unwrap();
        let root = document.root_element();
        assert_eq!([root.attribute("width"), root.attribute("height")], [Some("760"), Some("420")]);
        assert_eq!(root.attribute("viewBox"), Some("0 0 6080 3360"));
    }

    #[test]
    fn the_pixels_show_every_curve_and_the_texts() {
        let traces = [trace([1.0, 2.0]), trace((0..60).map(|at| at as f32 / 30.0)), trace(vec![1.5; 5000])];
        let svg = plot(&traces.each_ref()).svg().unwrap();
        let image = Plot::pixels(&svg).unwrap();
        assert_eq!((image.width(), image.height()), (1520, 840));
        // The line in the legend is some 48 x 6 pixels; the curve comes on top.
        for colour in [SeriesColour::Blue, SeriesColour::Vermilion, SeriesColour::Green] {
            let seen = pixels_of(colour, &image);
            assert!(seen > 150, "{colour:?} has {seen} pixels");
        }
        let black = image.to_luma8().pixels().filter(|pixel| pixel.0[0] < 40).count();
        assert!(black > 500, "there is no text: {black} dark pixels");
    }

    #[test]
    fn the_plot_of_a_long_run_is_small_and_shows_spikes() {
        let long = trace((0..500_000).map(|at| if at == 250_000 { 20.0 } else { 1.0 }));
        let svg = plot(&[&long]).svg().unwrap();
        assert!(svg.len() < 100_000, "{} bytes", svg.len());
        let document = roxmltree::Document::parse(&svg).unwrap();
        let points = |name: &str| -> Vec<(i32, i32)> {
            let shapes = document.descendants().filter(|node| node.has_tag_name(name));
            let texts = shapes.filter_map(|node| node.attribute("points"));
            let points = texts.flat_map(str::split_whitespace).map(|point| point.split_once(',').unwrap());
            points.map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).collect()
        };
        let (_, highest) = *points("polygon").iter().min_by_key(|(_, y)| *y).unwrap();
        assert!((units(76)..units(110)).contains(&highest), "the band ends at {highest}");
        let how = "pale: range of 512 steps; line: mean of";
        assert!(texts(&svg).iter().any(|text| text.starts_with(how)), "{:?}", texts(&svg));
    }

    #[test]
    fn few_equal_and_negative_values_can_be_plotted() {
        for values in [vec![2.0], vec![0.0; 3], vec![-1.0, -4.0], vec![1e30, -1e30], vec![1e-30; 90]] {
            let trace = trace(values.clone());
            let svg = plot(&[&trace]).svg().unwrap();
            let image = Plot::pixels(&svg).unwrap();
            assert!(pixels_of(SeriesColour::Blue, &image) > 150, "{values:?}");
        }
        let nothing = Trace::default();
        assert!(plot(&[&nothing]).is_empty() && !plot(&[&nothing, &trace([1.0])]).is_empty());
        plot(&[&nothing]).svg().unwrap();
    }

    #[test]
    fn a_given_range_is_kept_and_positions_are_converted_to_units() {
        let trace = trace((0..40).map(|_| 0.4));
        let plot = Plot { range: Some([0.0, 1.0]), positions_per_x: 10.0, x: "epoch", ..plot(&[&trace]) };
        let texts = texts(&plot.svg().unwrap());
        for text in ["epoch", "0.0", "1.0", "4"] {
            assert!(texts.iter().any(|there| there == text), "{text} is not in {texts:?}");
        }
        assert!(!texts.iter().any(|there| there == "40"), "{texts:?}");
    }
}
