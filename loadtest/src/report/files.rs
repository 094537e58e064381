//! The files that a report goes into: opened before the run, so that hours of measuring do not end
//! with a directory that is not there.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use super::Report;
use crate::cli::Common;
use crate::failure::Failure;

/// A file that can be written.
#[derive(Debug)]
struct OutputFile {
    path: PathBuf,
    file: File,
    /// Made by us, and nothing in it yet: dropping it removes it.
    is_new: bool,
}

/// All files of a report. Those that stay empty are removed again.
#[derive(Debug)]
pub struct OutputFiles {
    json: Option<OutputFile>,
    hdr: Option<OutputFile>,
    html: Option<OutputFile>,
}

impl OutputFiles {
    /// Opens what was asked for. What a file held before stays until `write`.
    ///
    /// # Errors
    /// `Usage` with the option, the cause and the cure.
    pub fn open(common: &Common) -> Result<Self, Failure> {
        let options = [("--json", &common.json), ("--hdr", &common.hdr), ("--html", &common.html)];
        for (index, (option, path)) in options.iter().enumerate() {
            let twin = options[..index].iter().find(|(_, other)| path.is_some() && other == path);
            if let Some((other, _)) = twin {
                return Err(Failure::Usage(format!(
                    "{other} and {option} name the same file: give each its own"
                )));
            }
        }
        let [json, hdr, html] = options
            .map(|(option, path)| path.as_deref().map(|path| OutputFile::open(option, path)).transpose());
        Ok(Self { json: json?, hdr: hdr?, html: html? })
    }

    /// Writes the report into each.
    ///
    /// # Errors
    /// `Usage` when the disk is full, or the like.
    pub fn write(self, report: &Report, common: &Common) -> Result<(), Failure> {
        if let Some(file) = self.json {
            file.write(format!("{:#}\n", report.json(common)).as_bytes())?;
        }
        if let Some(file) = self.hdr {
            let log =
                report.hdr().map_err(|cause| Failure::Usage(format!("--hdr: cannot encode {cause}")))?;
            file.write(&log)?;
        }
        if let Some(file) = self.html {
            file.write(report.html(common).as_bytes())?;
        }
        Ok(())
    }
}

impl OutputFile {
    fn open(option: &str, path: &Path) -> Result<Self, Failure> {
        let is_new = !path.exists();
        match OpenOptions::new().write(true).create(true).truncate(false).open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file, is_new }),
            Err(error) => Err(Failure::Usage(format!(
                "{option}: cannot write {}: {error}; give a file in a directory that exists and is yours",
                path.display()
            ))),
        }
    }

    fn write(mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.is_new = false;
        let is_plain = self.file.metadata().is_ok_and(|meta| meta.is_file());
        let emptied = if is_plain { self.file.set_len(0).and_then(|()| self.file.rewind()) } else { Ok(()) };
        emptied
            .and_then(|()| self.file.write_all(bytes))
            .map_err(|error| Failure::Usage(format!("cannot write {}: {error}", self.path.display())))
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.is_new {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_run_that_failed_is_as_it_was() {
        let path = std::env::temp_dir().join(format!("tidegate-loadtest-files-{}", std::process::id()));
        drop(OutputFile::open("--json", &path).unwrap());
        assert!(!path.exists(), "a new file is removed again");
        std::fs::write(&path, "a longer text of before").unwrap();
        drop(OutputFile::open("--json", &path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a longer text of before");
        OutputFile::open("--json", &path).unwrap().write(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_refused_with_the_option() {
        let refusal = OutputFile::open("--hdr", Path::new("/nowhere/at/all")).unwrap_err();
        assert!(matches!(&refusal, Failure::Usage(text) if text.starts_with("--hdr: cannot write /nowhere")));
    }
}
