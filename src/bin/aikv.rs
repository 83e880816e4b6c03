//! `aikv`: the Redis-compatible server on AiDb. Reads the command line, starts the server, turns failure into exit code 1.

use std::process::ExitCode;

use aidb::env::StdEnv;
use aidb::server::flags::{Invocation, parse};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match parse(&StdEnv, &arguments) {
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Invocation::Run(config)) => {
            aidb::server::log_to_stderr(&config.loglevel);
            aidb::server::run(*config)
        }
        Err(why) => Err(why),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("aikv: {why}");
            ExitCode::FAILURE
        }
    }
}
