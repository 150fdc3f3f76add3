//! Writes the seeds of every target: `seeds REPOSITORY FOLDER`.

use std::path::PathBuf;
use std::process::ExitCode;

use libfuzzer_sys as _; // its counters: this program is instrumented as the targets are

fn main() -> ExitCode {
    let places: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [repository, folder] = places.as_slice() else {
        eprintln!("usage: seeds REPOSITORY FOLDER");
        return ExitCode::FAILURE;
    };
    match cfr_fuzz::seeds::write(repository, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("seeds: {cause}");
            ExitCode::FAILURE
        }
    }
}
