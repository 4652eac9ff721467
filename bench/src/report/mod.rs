//! What people read of a run: one table in Markdown, and one chart.

mod chart;
mod goals;
mod table;

pub use chart::chart;
pub use table::table;
