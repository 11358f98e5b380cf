//! `denali`: the command line with which people run guests.

mod arguments;
mod check;
mod control;
mod devices;
mod doctor;
mod findings;
mod fleet;
mod image;
mod keep;
mod output;
mod run;
mod show;
mod supervisor;
mod table;
mod top;

use arguments::{Arguments, Command, ImageCommand};
use clap::Parser;
use denali_client::Action;
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
        Command::Supervisor(options) => supervisor::supervisor(&options),
        Command::Keep(arguments) => keep::keep(&arguments),
        Command::Status(arguments) => control::status(&arguments),
        Command::SwapOut(arguments) => control::swap_out(&arguments),
        Command::Park(arguments) => control::park(&arguments),
        Command::Resume(arguments) => run::resume(&arguments),
        Command::Snapshot(arguments) => control::snapshot(&arguments),
        Command::Create(arguments) => fleet::create(&arguments),
        Command::Start(act) => fleet::act(Action::Start, &act.guests, &act.supervisor),
        Command::Stop(act) => fleet::act(Action::Stop, &act.guests, &act.supervisor),
        Command::Wake(act) => fleet::act(Action::Wake, &act.guests, &act.supervisor),
        Command::Remove(act) => fleet::act(Action::Remove, &act.guests, &act.supervisor),
        Command::List(arguments) => fleet::list(&arguments),
        Command::Inspect(arguments) => fleet::inspect(&arguments),
        Command::Console(arguments) => fleet::console(&arguments),
        Command::Logs(arguments) => fleet::logs(&arguments),
        Command::Events(arguments) => fleet::events(&arguments),
        Command::Top(arguments) => top::top(&arguments),
        Command::Drain(arguments) => fleet::drain(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
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
