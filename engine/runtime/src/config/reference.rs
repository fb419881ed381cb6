//! The reference file: every setting with its default, for people.

use crate::config::key::KEYS;

/// The reference file: every key with its sentence, unit, cost and default.
pub fn reference() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "# Every setting of tillstream with its default. A setting is taken from a flag, else from the environment\n\
         # (TILLSTREAM_SECTION__KEY), else from this file, else the default. Unknown keys are errors.\n\
         #\n\
         # The defaults alone do not start an engine: it must know whom to believe. Set the three files of [pki], and\n\
         # registry.file or registry.auto_register; or start it with --dev, which makes an own authority and takes everyone in\n\
         # (tillstream check-config --dev --config FILE).\n",
    );
    let mut section = "";
    for key in KEYS {
        let (group, bare) = key.name.split_once('.').unwrap_or(("", key.name));
        if group != section {
            section = group;
            // Writing to a String cannot fail.
            let _written = write!(text, "\n[{group}]\n");
        }
        let unit = if key.unit.is_empty() {
            String::new()
        } else {
            format!(" In {}.", key.unit)
        };
        let _written = writeln!(
            text,
            "# {}{unit}\n# {}\n# {bare} = {}\n",
            key.about,
            key.cost,
            key.kind.written(key.default)
        );
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
