//! Commands for a login shell of any kind.

use overside_model::{ErrorCode, Problem};

/// A command that runs `script` in the host's `/bin/sh` with `arguments` as `$1` and so on. The script is ours and has
/// neither single quotes nor line ends, so that every login shell (bash, zsh, fish, csh) passes it on as it is.
///
/// # Errors
/// As [`quote`].
pub(crate) fn script(prefix: &str, script: &str, arguments: &[&str]) -> Result<String, Problem> {
    debug_assert!(!script.contains(['\'', '\n', '!']));
    let mut command = format!("exec {prefix}/bin/sh -c '{script}' overside");
    for argument in arguments {
        command.push(' ');
        command.push_str(&quote(argument)?);
    }
    Ok(command)
}

/// A word in single quotes. Shells differ in what they make of quotes, backslashes and exclamation marks inside, so that a
/// text with these is refused rather than trusted to one of them.
///
/// # Errors
/// [`ErrorCode::RunnerUnsuitable`], with the text.
pub(crate) fn quote(text: &str) -> Result<String, Problem> {
    let plain = |c: char| !c.is_control() && !"'\\!`".contains(c);
    if text.chars().all(plain) {
        return Ok(format!("'{text}'"));
    }
    Err(Problem::new(
        ErrorCode::RunnerUnsuitable,
        format!("the host has a path that no shell can be told safely: {text:?}"),
        "Log in as a user whose home directory has a plainer name.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_as_they_are_and_unsafe_ones_are_refused() {
        let words = ["/home/me/.cache", "with space", "$HOME", "a;b", "$(x)", "ä*?", ""];
        let command = script("", "printf \"%s|\" \"$@\"", &words).unwrap();
        for shell in ["sh", "bash", "dash"] {
            let Ok(output) = std::process::Command::new(shell).args(["-c", &command]).output() else { continue };
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}|", words.join("|")), "{shell}");
        }
        for text in ["a'b", "a\\", "a!b", "a\nb", "`x`"] {
            assert!(quote(text).is_err(), "{text:?}");
        }
    }
}
