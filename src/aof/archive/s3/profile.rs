//! The files `~/.aws/credentials` and `~/.aws/config`, as far as keys, region and endpoint go.
//!
//! Called by [`credentials`](super::credentials) with the text of both files. Read are the sections `[name]` of the
//! first and `[default]` and `[profile name]` of the second, lines `key = value`, comments that begin with `#` or `;` at
//! the start of a line or after a space. Indented lines belong to the key above them and are passed over. A section that
//! comes twice is one section; of a key that comes twice the last is used; the credentials file goes before the other.
//!
//! Profiles that say how to obtain keys instead of naming them (roles, processes, single sign-on) are not followed; that
//! is an error of its own, so that nobody gets the keys of something else.

use super::config::S3Keys;
use std::fmt;

/// What a profile says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    /// Access key, secret key and session token.
    pub(super) keys: Option<S3Keys>,
    /// The region.
    pub(super) region: Option<String>,
    /// The address of the server, of S3 alone before that of all services.
    pub(super) endpoint: Option<String>,
}

/// Why a profile is of no use. The text of the files is in none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProfileError {
    /// Neither file has a section of that name.
    Unknown,
    /// One of the two keys is missing.
    Half { missing: &'static str },
    /// The keys are obtained in a way that is not followed.
    Indirect { by: &'static str },
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProfileError::Unknown => f.write_str("is in neither file"),
            ProfileError::Half { missing } => write!(f, "has no {missing}"),
            ProfileError::Indirect { by } => {
                write!(
                    f,
                    "obtains its keys by {by}, which is not followed; `aws configure export-credentials` shows them"
                )
            }
        }
    }
}

const INDIRECT: &[&str] =
    &["role_arn", "credential_process", "sso_session", "sso_start_url", "web_identity_token_file"];

/// Returns what the two files say of the profile `name`.
pub(super) fn find(credentials: &str, config: &str, name: &str) -> Result<Profile, ProfileError> {
    let in_config = |section: &str| match section.strip_prefix("profile") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim() == name,
        _ => section == "default" && name == "default",
    };
    let mut lines = section_lines(config, in_config);
    lines.extend(section_lines(credentials, |section| section == name));
    let named = has_section(config, in_config) || has_section(credentials, |section| section == name);
    if !named {
        return Err(ProfileError::Unknown);
    }
    let value = |key: &str| lines.iter().rev().find(|(k, v)| *k == key && !v.is_empty()).map(|(_, v)| v.to_string());
    let keys = match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Some(S3Keys::new(id, secret, value("aws_session_token"))),
        (None, None) => match INDIRECT.iter().find(|key| value(key).is_some()) {
            Some(by) => return Err(ProfileError::Indirect { by }),
            None => None,
        },
        (None, Some(_)) => return Err(ProfileError::Half { missing: "aws_access_key_id" }),
        (Some(_), None) => return Err(ProfileError::Half { missing: "aws_secret_access_key" }),
    };
    let endpoint = value("endpoint_url_s3").or_else(|| value("endpoint_url"));
    Ok(Profile { keys, region: value("region"), endpoint })
}

/// Returns the name of the section that `line` opens.
fn section_of(line: &str) -> Option<&str> {
    let name = without_comment(line).strip_prefix('[')?.strip_suffix(']')?;
    Some(name.trim())
}

fn has_section(text: &str, wanted: impl Fn(&str) -> bool) -> bool {
    text.lines().filter_map(section_of).any(wanted)
}

/// Returns the keys and values of the wanted sections, in the order of the file.
fn section_lines(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<(&str, &str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(name) = section_of(line) {
            inside = wanted(name);
        } else if inside
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            found.push((key.trim(), without_comment(value)));
        }
    }
    found
}

/// Cuts a comment off and trims what is left.
fn without_comment(text: &str) -> &str {
    let comment = text.match_indices(['#', ';']).find(|(at, _)| *at == 0 || text[..*at].ends_with([' ', '\t']));
    text[..comment.map_or(text.len(), |(at, _)| at)].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "\
# keys
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key = a/b+c=#d ; of the default

[work]
aws_access_key_id=AKWORK
aws_secret_access_key=SKWORK
aws_session_token=TOKEN==
region = eu-west-9
[half]
aws_access_key_id = AKHALF
";
    const CONFIG: &str = "\
[default]
region = eu-central-1
s3 =
  endpoint_url = http://indented
[profile work]  ; with a comment
region = eu-west-1
endpoint_url = https://all.example
[profile\tplain]
region = us-west-2
[work]
region = not-a-profile-section
[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = default
[profile half2]
aws_secret_access_key = SK
";

    #[test]
    fn both_files_are_one_profile() {
        let profile = find(CREDENTIALS, CONFIG, "default").unwrap();
        assert_eq!(profile.keys, Some(S3Keys::new("AKDEFAULT", "a/b+c=#d", None)));
        assert_eq!(profile.region.as_deref(), Some("eu-central-1"));
        assert_eq!(profile.endpoint, None, "an indented line belongs to the key above it");
        let profile = find(CREDENTIALS, CONFIG, "work").unwrap();
        assert_eq!(profile.keys, Some(S3Keys::new("AKWORK", "SKWORK", Some("TOKEN==".into()))));
        assert_eq!(profile.region.as_deref(), Some("eu-west-9"), "the credentials file goes first");
        assert_eq!(profile.endpoint.as_deref(), Some("https://all.example"));
    }

    #[test]
    fn profile_without_keys_has_a_region() {
        let profile = find("", CONFIG, "plain").unwrap();
        assert_eq!(profile, Profile { keys: None, region: Some("us-west-2".into()), endpoint: None });
    }

    #[test]
    fn what_is_of_no_use_says_why() {
        assert_eq!(find(CREDENTIALS, CONFIG, "nobody"), Err(ProfileError::Unknown));
        assert_eq!(find("", "", "default"), Err(ProfileError::Unknown));
        assert_eq!(find(CREDENTIALS, "", "half"), Err(ProfileError::Half { missing: "aws_secret_access_key" }));
        assert_eq!(find("", CONFIG, "half2"), Err(ProfileError::Half { missing: "aws_access_key_id" }));
        assert_eq!(find("", CONFIG, "role"), Err(ProfileError::Indirect { by: "role_arn" }));
        let said = ProfileError::Indirect { by: "role_arn" }.to_string();
        assert!(said.contains("role_arn") && said.contains("export-credentials"));
    }

    #[test]
    fn odd_text_is_passed_over() {
        let odd = "no section = x\n[\n]\n[]\n[unclosed\n=\n[x]\n==\n = v\naws_access_key_id\n\u{feff}é=ü\r\n";
        assert_eq!(find(odd, odd, "x"), Ok(Profile::default()));
        assert_eq!(find(odd, odd, "unclosed"), Err(ProfileError::Unknown));
        let windows = "[a]\r\naws_access_key_id = 1\r\naws_secret_access_key = 2\r\n";
        assert_eq!(find(windows, "", "a").unwrap().keys, Some(S3Keys::new("1", "2", None)));
    }
}
