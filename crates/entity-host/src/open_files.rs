use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the number of files this process may have open to as many as it may ask for, and says how
/// many that is; `None` means without bound.
///
/// For whoever starts the process to call. Nothing here depends on it: walks and sinks keep fewer
/// than 256 descriptors open.
///
/// # Errors
/// When the system refuses.
pub fn raise_open_files() -> std::io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_it_goes() {
        let most = raise_open_files().expect("a soft limit may be raised to the hard one");
        assert_eq!(getrlimit(Resource::Nofile).current, most);
    }
}
