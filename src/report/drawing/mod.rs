//! Rendering of plots, captions and the report page: the feature `report`, without which `drawing_disabled.rs` takes its place.

mod page_html;
mod plot_svg;
mod raster;

pub(super) use raster::rasterise;
