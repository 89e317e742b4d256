//! The tests' own Google Cloud Storage as a process, for what is no test: `cargo test --test gcs -- --serve BUCKET` prints its URL,
//! for `STORAGE_EMULATOR_HOST`, and serves until its standard input ends. Otherwise it does nothing.

use std::io::Read as _;

use support::gcs::{Gcs, Rules};

#[path = "../support/mod.rs"]
mod support;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some("--serve"), bucket) = (arguments.next().as_deref(), arguments.next()) else {
        return;
    };
    let service = Gcs::start();
    if let Some(bucket) = bucket {
        service.create_bucket(&bucket, Rules::default());
    }
    #[expect(clippy::print_stdout, reason = "whoever started it needs the URL")]
    {
        println!("{}", service.url());
    }
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
