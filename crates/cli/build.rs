//! Collects the words that Overside itself says, out of the string literals of its sources: what a diagnosis bundle may say.

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs::{self, read_dir, read_to_string},
    io,
    path::Path,
};

use proc_macro2::{TokenStream, TokenTree};

/// Nobody meets what this one says.
const OTHERS: &[&str] = &["testkit"];

fn main() -> io::Result<()> {
    let here = env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?;
    let crates = Path::new(&here).parent().ok_or(io::ErrorKind::NotFound)?;
    let mut words = BTreeSet::new();
    for member in read_dir(crates)? {
        let member = member?;
        if !OTHERS.iter().any(|name| member.file_name() == *name) {
            let sources = member.path().join("src");
            println!("cargo:rerun-if-changed={}", sources.display());
            collect(&sources, &mut words)?;
        }
    }
    let mut table = String::from("&[\n");
    for word in words {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "    {word:?},");
    }
    table.push(']');
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::File::create(Path::new(&out).join("words.rs"))
        .and_then(|mut file| io::Write::write_all(&mut file, table.as_bytes()))
}

fn collect(directory: &Path, words: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in read_dir(directory)? {
        let path = entry?.path();
        // Modules are named in the log.
        words.extend(
            path.file_stem()
                .and_then(|name| name.to_str())
                .into_iter()
                .flat_map(|name| name.split('_'))
                .map(str::to_owned),
        );
        if path.is_dir() {
            collect(&path, words)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            #[expect(clippy::disallowed_methods, reason = "fs_err is no dependency of this script")]
            let text = read_to_string(&path)?;
            // A file that does not parse stops the build elsewhere, with a better message.
            if let Ok(tokens) = text.parse() {
                literals(tokens, words);
            }
        }
    }
    Ok(())
}

/// Adds the words of every string literal, but for those in tests.
fn literals(tokens: TokenStream, words: &mut BTreeSet<String>) {
    let mut before = [String::new(), String::new()];
    for token in tokens {
        match &token {
            TokenTree::Group(group) if !(before[0] == "mod" && before[1].ends_with("tests")) => {
                literals(group.stream(), words)
            }
            TokenTree::Literal(literal) => {
                if let Ok(syn::Lit::Str(text)) = syn::parse_str(&literal.to_string()) {
                    words.extend(text.value().split_whitespace().filter_map(word));
                }
            }
            _ => {}
        }
        before = [std::mem::take(&mut before[1]), token.to_string()];
    }
}

/// Letters, with hyphens or underscores between them, as names of variables have.
fn word(text: &str) -> Option<String> {
    let text = text.trim_matches(|character: char| character.is_ascii_punctuation());
    let letters =
        text.split(['-', '_']).all(|part| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphabetic()));
    letters.then(|| text.to_owned())
}
