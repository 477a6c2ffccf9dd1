//! Where a configuration comes from: the caller reads, the readers here only understand.

/// Where a configuration comes from. The caller does all reading.
pub struct Sources<'a> {
    /// Name (for messages) and text of the file, if there is one.
    pub file: Option<(&'a str, &'a str)>,
    /// The value of an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Names of all environment variables, so that a mistyped `ARRIERO_…` is found.
    pub env_names: Vec<String>,
    /// Reads a key or certificate file; the error says why not, without the path.
    pub read_file: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
    /// Names of the entries of a directory, in any order; the error says why not, without the path.
    pub list_dir: &'a dyn Fn(&str) -> Result<Vec<String>, String>,
    /// What `threads: 0` means.
    pub cores: usize,
    /// Whether standard error is a terminal, for `logging.format: auto`.
    pub terminal: bool,
}

impl Sources<'_> {
    /// No file, an empty environment, and nothing that could be read.
    pub(crate) fn nothing() -> Self {
        Sources {
            file: None,
            env: &|_| None,
            env_names: Vec::new(),
            read_file: &|_| Err("there are no files here".to_owned()),
            list_dir: &|_| Err("there are no files here".to_owned()),
            cores: 1,
            terminal: false,
        }
    }
}
