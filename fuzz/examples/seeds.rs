//! Writes what fuzzing begins with into a folder: for each target a folder of seeds and of what once
//! broke something, a dictionary beside it, and its line on standard output: name, bytes of an input
//! at most. With target names, only theirs.
#![allow(clippy::print_stdout, reason = "its output is read by a program")]

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use clinigate_fuzz::TARGETS;

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let corpus = PathBuf::from(arguments.next().ok_or_else(|| io::Error::other("which folder?"))?);
    let chosen: Vec<_> = arguments.collect();
    for target in
        TARGETS.iter().filter(|target| chosen.is_empty() || chosen.iter().any(|name| name == target.name))
    {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        for (seed, number) in (target.seeds)().iter().zip(0..) {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
        let vocabulary = (target.vocabulary)();
        fs::write(corpus.join(format!("{}.dict", target.name)), dictionary(&vocabulary))?;
        println!("{} {}", target.name, target.most);
        let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target.name);
        for entry in fs::read_dir(regressions).into_iter().flatten() {
            let entry = entry?;
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// As libFuzzer reads it: each word in quotes, its bytes in hexadecimal.
fn dictionary(words: &[Vec<u8>]) -> String {
    let word = |word: &Vec<u8>| {
        let bytes: Vec<String> = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{}\"\n", bytes.concat())
    };
    words.iter().map(word).collect()
}
