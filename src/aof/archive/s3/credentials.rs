//! Where keys, region and endpoint come from: configuration, environment, profile, metadata service, in this order.
//!
//! Called once when a store is made. The environment and the files are arguments, so that tests bring their own.

use super::config::{S3Config, S3Keys, check_endpoint};
use super::profile::{self, Profile, ProfileError};
use crate::base::{Error, Result};
use object_store::aws::AmazonS3ConfigKey as Key;
use std::io;
use std::path::{Path, PathBuf};

/// The world outside the configuration.
pub(super) struct Surroundings<'a> {
    /// Returns an environment variable.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file.
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Access {
    /// The keys; if none, the client asks a metadata service.
    pub(super) keys: Option<S3Keys>,
    /// Settings of the client for a web identity or a metadata service: addresses and names of files, no keys.
    pub(super) service: Vec<(Key, String)>,
    /// Where the keys come from, for the log.
    pub(super) origin: String,
    /// The region, if anything names one.
    pub(super) region: Option<String>,
    /// The server, if anything names one.
    pub(super) endpoint: Option<String>,
}

/// Variables that say where a web identity or a metadata service is.
const SERVICES: &[(&str, Key)] = &[
    ("AWS_WEB_IDENTITY_TOKEN_FILE", Key::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", Key::RoleArn),
    ("AWS_ROLE_SESSION_NAME", Key::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", Key::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Key::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Key::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Key::ContainerAuthorizationTokenFile),
    ("AWS_METADATA_ENDPOINT", Key::MetadataEndpoint),
];

/// Looks for keys, region and endpoint.
///
/// # Errors
/// Half a pair of keys, a named profile that is not there or of no use, a file that cannot be read, a bad endpoint.
pub(super) fn find(config: &S3Config, world: &Surroundings<'_>) -> Result<Access> {
    let variable = |name: &str| (world.variable)(name).filter(|value| !value.is_empty());
    let mut access = Access {
        keys: None,
        service: Vec::new(),
        origin: "the metadata service".into(),
        region: config.region.clone().or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION")),
        endpoint: config.endpoint.clone(),
    };
    if let Some(keys) = &config.keys {
        access.keys = Some(keys.clone());
        access.origin = "the configuration".into();
    } else if config.profile.is_none() {
        environment_keys(&mut access, &variable)?;
    }
    let decided = access.keys.is_some() || access.origin == WEB_IDENTITY;
    let named = config.profile.clone().or_else(|| variable("AWS_PROFILE").filter(|_| !decided));
    let profile = find_profile(named.as_deref(), decided, world, &variable)?;
    if !decided && let Some(keys) = profile.keys {
        access.keys = Some(keys);
        access.origin = format!("the profile {}", named.as_deref().unwrap_or("default"));
    }
    let endpoints = [access.endpoint, variable("AWS_ENDPOINT_URL_S3"), variable("AWS_ENDPOINT_URL"), profile.endpoint];
    access.endpoint = endpoints.into_iter().flatten().next();
    access.region = access.region.or(profile.region);
    if let Some(endpoint) = &access.endpoint {
        check_endpoint(endpoint, config.allow_http)?;
    }
    if access.keys.is_none() {
        let service = SERVICES.iter().filter_map(|(name, key)| Some((*key, variable(name)?)));
        access.service = service.collect();
    }
    Ok(access)
}

const WEB_IDENTITY: &str = "a web identity";

/// Takes the keys of the environment.
fn environment_keys(access: &mut Access, variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    let missing = |name: &str, other: &str| {
        Err(Error::invalid_argument(format_args!("{name} is not set in the environment, but {other} is")))
    };
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            access.keys = Some(S3Keys::new(id, secret, variable("AWS_SESSION_TOKEN")));
            access.origin = "the environment".into();
        }
        (None, Some(_)) => return missing("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        (Some(_), None) => return missing("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        (None, None) if variable("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() && variable("AWS_ROLE_ARN").is_some() => {
            access.origin = WEB_IDENTITY.into();
        }
        (None, None) => {}
    }
    Ok(())
}

/// Reads the profile `named`, which has to be there with keys, or else the default one, which need not.
fn find_profile(
    named: Option<&str>,
    decided: bool,
    world: &Surroundings<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Profile> {
    let home = variable("HOME").map(PathBuf::from);
    let path = |name: &str, default: &str| match variable(name) {
        Some(path) => Some(PathBuf::from(path)),
        None => home.as_ref().map(|home| home.join(default)),
    };
    let credentials = path("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    let config = path("AWS_CONFIG_FILE", ".aws/config");
    let found = profile::find(
        &read_text(credentials.as_deref(), named.is_some(), world)?,
        &read_text(config.as_deref(), named.is_some(), world)?,
        named.unwrap_or("default"),
    );
    let refuse = |error: ProfileError| {
        let show = |path: &Option<PathBuf>| path.as_ref().map_or("none".into(), |path| path.display().to_string());
        let name = named.unwrap_or("default");
        let (credentials, config) = (show(&credentials), show(&config));
        Error::invalid_argument(format_args!("profile {name:?} of {credentials} and {config} {error}"))
    };
    match found {
        Ok(profile) if named.is_none() || profile.keys.is_some() => Ok(profile),
        Ok(_) => Err(refuse(ProfileError::Half { missing: "aws_access_key_id" })),
        // Nobody named it: it may be missing, and matters only if there are no keys yet.
        Err(ProfileError::Unknown) if named.is_none() => Ok(Profile::default()),
        Err(_) if named.is_none() && decided => Ok(Profile::default()),
        Err(error) => Err(refuse(error)),
    }
}

/// Reads a file of profiles; one that is not there is empty, and so is one that cannot be read if no profile was named.
fn read_text(path: Option<&Path>, named: bool, world: &Surroundings<'_>) -> Result<String> {
    let Some(path) = path else { return Ok(String::new()) };
    match (world.read)(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound || !named => Ok(String::new()),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::S3ConfigBuilder;
    use super::*;

    const FILE: &str = "[default]\naws_access_key_id = AKD\naws_secret_access_key = secret-d\nregion = eu-west-1\n\
                        [work]\naws_access_key_id = AKW\naws_secret_access_key = secret-w\nendpoint_url = https://w\n\
                        [half]\naws_secret_access_key = secret-h\n[empty]\nregion = x\n";

    fn search(config: S3ConfigBuilder, variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Access> {
        let pick = |from: &[(&str, &str)], name: &str| {
            from.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        let read = |path: &Path| match path.to_str().unwrap() {
            "/locked" => Err(io::ErrorKind::PermissionDenied.into()),
            path => pick(files, path).map(String::into_bytes).ok_or(io::ErrorKind::NotFound.into()),
        };
        find(&config.build()?, &Surroundings { variable: &|name| pick(variables, name), read: &read })
    }

    fn base() -> S3ConfigBuilder {
        S3Config::builder("bucket")
    }

    const HOME: (&str, &str) = ("HOME", "/h");
    const FILES: &[(&str, &str)] = &[("/h/.aws/credentials", FILE), ("/other", FILE)];
    const ENV_KEYS: [(&str, &str); 3] =
        [("AWS_ACCESS_KEY_ID", "AKE"), ("AWS_SECRET_ACCESS_KEY", "secret-e"), ("AWS_SESSION_TOKEN", "token")];

    #[test]
    fn configuration_then_environment_then_profile_then_service() {
        let all = [ENV_KEYS.as_slice(), &[HOME]].concat();
        let configured = S3Keys::new("AKC", "secret-c", None);
        let found = search(base().keys(configured.clone()), &all, FILES).unwrap();
        assert_eq!((found.keys, found.origin.as_str()), (Some(configured), "the configuration"));
        let found = search(base(), &all, FILES).unwrap();
        assert_eq!(found.keys, Some(S3Keys::new("AKE", "secret-e", Some("token".into()))));
        assert_eq!(found.region.as_deref(), Some("eu-west-1"), "the default profile fills in what is missing");
        let found = search(base().profile("work"), &all, FILES).unwrap();
        assert_eq!(found.keys, Some(S3Keys::new("AKW", "secret-w", None)), "a configured profile is configuration");
        assert_eq!(found.endpoint.as_deref(), Some("https://w"));
        let found = search(base(), &[HOME], FILES).unwrap();
        assert_eq!((found.keys.is_some(), found.origin.as_str()), (true, "the profile default"));
        let found = search(base(), &[HOME, ("AWS_PROFILE", "work")], FILES).unwrap();
        assert_eq!(found.origin, "the profile work");
        let found = search(base(), &[("AWS_SHARED_CREDENTIALS_FILE", "/other")], FILES).unwrap();
        assert_eq!(found.origin, "the profile default");
        let found = search(base(), &[("AWS_METADATA_ENDPOINT", "http://m")], FILES).unwrap();
        assert_eq!((found.keys, found.service), (None, vec![(Key::MetadataEndpoint, "http://m".into())]));
        let identity = [HOME, ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn")];
        let found = search(base(), &identity, FILES).unwrap();
        assert_eq!((found.keys, found.service.len(), found.origin.as_str()), (None, 2, WEB_IDENTITY));
    }

    #[test]
    fn region_and_endpoint_have_their_order_too() {
        let variables = [
            ("AWS_REGION", "r1"),
            ("AWS_DEFAULT_REGION", "r2"),
            ("AWS_ENDPOINT_URL", "https://e2"),
            ("AWS_ENDPOINT_URL_S3", "https://e1"),
        ];
        let found = search(base(), &variables, &[]).unwrap();
        assert_eq!((found.region.as_deref(), found.endpoint.as_deref()), (Some("r1"), Some("https://e1")));
        let found = search(base(), &variables[1..3], &[]).unwrap();
        assert_eq!((found.region.as_deref(), found.endpoint.as_deref()), (Some("r2"), Some("https://e2")));
        let found = search(base().region("r0").endpoint("https://e0"), &variables, &[]).unwrap();
        assert_eq!((found.region.as_deref(), found.endpoint.as_deref()), (Some("r0"), Some("https://e0")));
        assert!(search(base(), &[("AWS_ENDPOINT_URL", "http://plain")], &[]).is_err(), "needs allow_http as well");
    }

    #[test]
    fn what_is_named_has_to_be_there() {
        let refused = |config: S3ConfigBuilder, variables: &[(&str, &str)]| {
            let error = search(config, variables, FILES).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret-"), "{error}");
            error.to_string()
        };
        assert!(refused(base(), &ENV_KEYS[..1]).contains("AWS_SECRET_ACCESS_KEY is not set"));
        assert!(refused(base(), &ENV_KEYS[1..]).contains("AWS_ACCESS_KEY_ID is not set"));
        assert!(refused(base().profile("nobody"), &[HOME]).contains("\"nobody\" of /h/.aws/credentials"));
        assert!(refused(base().profile("half"), &[HOME]).contains("has no aws_access_key_id"));
        assert!(refused(base().profile("empty"), &[HOME]).contains("has no aws_access_key_id"));
        let locked = [("AWS_SHARED_CREDENTIALS_FILE", "/locked")];
        assert!(refused(base().profile("work"), &locked).contains("cannot read /locked"));
        assert!(search(base(), &locked, FILES).unwrap().keys.is_none(), "nobody asked for that file");
    }
}
