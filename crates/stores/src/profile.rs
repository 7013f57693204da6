//! The files in which Amazon's tools keep credentials, by profile.

use std::collections::BTreeMap;

/// What a profile says, by the names of the file.
pub(crate) type Profile = BTreeMap<String, String>;

/// What `text` says of a profile. A section is `[NAME]` or, in `config`, `[profile NAME]`; what is said
/// twice counts as it was said last. Nested settings, which are indented, are passed over.
pub(crate) fn profile(text: &str, name: &str) -> Profile {
    let (mut found, mut is_inside) = (Profile::new(), false);
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let section = section.trim();
            let section = section.strip_prefix("profile ").map_or(section, str::trim);
            is_inside = section == name;
            continue;
        }
        if let (true, false, Some((key, value))) = (is_inside, is_nested, line.split_once('=')) {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_in_either_file() {
        let text = "\
# a comment
[default]
aws_access_key_id = AKIA1
aws_secret_access_key=secret = with equals
[profile other]
region = eu-west-1
s3 =
    max_concurrent_requests = 20
; another
[ other ]
aws_access_key_id = AKIA2
";
        let default = profile(text, "default");
        assert_eq!(default["aws_access_key_id"], "AKIA1");
        assert_eq!(default["aws_secret_access_key"], "secret = with equals");
        let other = profile(text, "other");
        assert_eq!((&*other["region"], &*other["aws_access_key_id"]), ("eu-west-1", "AKIA2"));
        assert!(!other.contains_key("max_concurrent_requests"));
        assert!(profile(text, "none").is_empty());
    }
}
