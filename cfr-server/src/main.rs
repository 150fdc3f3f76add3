//! The binary: see [`cfr_server::command`].

use std::process::ExitCode;

// Request handling allocates small and often; the system's allocator costs a seventh of the time there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cfr_server::command::run()
}
