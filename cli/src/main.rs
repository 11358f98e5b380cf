//! `denali`: the command line with which people run guests.

mod arguments;
mod check;
mod devices;
mod findings;
mod image;
mod output;
mod run;
mod show;
mod table;

use arguments::{Arguments, Command, ImageCommand};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return arguments::refuse(&error),
    };
    let format = arguments.format();
    let result = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Schema => show::schema(),
        Command::Images(_) => show::images(format),
        Command::Image(ImageCommand::Pack(arguments)) => image::pack(&arguments),
        Command::Version(_) => show::version(format),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}
