//! What a command said, and how it ended.

/// The end of a command.
#[derive(Debug)]
pub(crate) struct Output {
    /// The command line, for messages.
    pub(crate) command: String,
    /// Its exit code, or 128 and the signal that killed it.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Output {
    /// What it printed, if it ended with 0.
    pub(crate) fn ok(self) -> String {
        self.ends(0)
    }

    /// What it printed, if it ended with `code`.
    pub(crate) fn ends(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}\n{}{}", self.command, self.stdout, self.stderr);
        self.stdout
    }

    /// The message of the one line that a failed command left on stderr.
    pub(crate) fn fails(self) -> String {
        assert_ne!(self.code, 0, "{} should fail\n{}", self.command, self.stdout);
        let lines: Vec<_> = self.stderr.lines().filter(|line| line.contains("=error ")).collect();
        assert_eq!(lines.len(), 1, "{}: {}", self.command, self.stderr);
        let (_, message) = lines[0].split_once(" msg=").unwrap();
        serde_json::from_str(message).unwrap()
    }
}
