//! The `clinigate` command.

fn main() -> std::process::ExitCode {
    clinigate::cli::main()
}
