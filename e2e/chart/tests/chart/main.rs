//! Tests of the charts, one file for each thing that they promise.

mod gitops;
mod installs;
mod networks;
mod rendering;
mod rules;
mod schemas;
mod tested;
mod values;
