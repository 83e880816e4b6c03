//! `sim`: runs AiDb under simulated crashes and disk faults; see `sim --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
