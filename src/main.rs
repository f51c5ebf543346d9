//! gpu-gan.
fn main() {}
