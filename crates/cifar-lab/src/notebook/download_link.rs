//! A link to download a file, such as saved weights, from JupyterLab.

use notebook_charts::{View, numbers, text};
use std::fmt::{self, Display, Formatter};
use std::path::{Component, Path, PathBuf};

use super::show::Show;
use crate::error::{Error, Result};
use crate::paths::{notebook_folder, show_path};

/// A link to a file, shown as a cell's last expression.
///
/// JupyterLab resolves its address relative to the notebook's folder and replaces it by its server's (`/files/…`); the
/// attribute `download` makes the browser save the file instead of showing it. Outside of JupyterLab the plain text says
/// where the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a link is shown as the last expression of a cell"]
pub struct DownloadLink {
    /// Relative to the notebook's folder, with slashes; `None` if there is no such path in UTF-8.
    address: Option<String>,
    name: String,
    bytes: u64,
    shown: String,
}

/// A link to the file at `path`; JupyterLab downloads it on a click.
///
/// ```
/// use cifar_lab::download_link::download_link;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("net.pth");
/// std::fs::write(&path, "weights").unwrap();
/// assert!(download_link(&path)?.html().contains("net.pth\" download>net.pth</a>"));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if there is no such file.
pub fn download_link(path: impl AsRef<Path>) -> Result<DownloadLink> {
    let path = path.as_ref();
    let failed = |source| Error::File { action: "opening", path: path.to_path_buf(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    let file = path.canonicalize().map_err(failed)?;
    let folder = notebook_folder().canonicalize();
    let address = folder.ok().and_then(|folder| relative(&folder, &file));
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(DownloadLink { address, name, bytes, shown: show_path(&file) })
}

/// The relative path from a folder to a file as a link's address; `None` if it is not UTF-8.
fn relative(folder: &Path, file: &Path) -> Option<String> {
    let common = folder.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(file.components().skip(common)).collect();
    let parts: Option<Vec<String>> =
        way.components().map(|part| part.as_os_str().to_str().map(percent_encode)).collect();
    Some(parts?.join("/"))
}

/// A part of an address, with everything except letters, digits and `-._~` encoded as in RFC 3986.
fn percent_encode(part: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    part.bytes().map(byte).collect()
}

impl DownloadLink {
    /// The link as HTML.
    pub fn html(&self) -> String {
        let [name, shown] = [&self.name, &self.shown].map(|text| text::escape(text));
        let link = match &self.address {
            Some(address) => format!("<a href=\"{}\" download>{name}</a>", text::escape(address)),
            None => name,
        };
        format!("<div style=\"padding:2px 10px\">Download {link} ({}), here {shown}</div>", numbers::bytes(self.bytes))
    }
}

impl Show for DownloadLink {
    fn view(&self) -> View {
        View::html(self.html(), self.to_string())
    }
}

impl Display for DownloadLink {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name, numbers::bytes(self.bytes), self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_from_the_notebook_to_the_file() {
        let way = |folder: &str, file: &str| relative(Path::new(folder), Path::new(file)).unwrap();
        assert_eq!(way("/lab/notebooks", "/lab/runs/1-x/net.pth"), "../runs/1-x/net.pth");
        assert_eq!(way("/lab/runs/1", "/lab/runs/1/00/net.pth"), "00/net.pth");
        assert_eq!(way("/lab", "/lab/größe & <1>.pth"), "gr%C3%B6%C3%9Fe%20%26%20%3C1%3E.pth");
    }

    #[test]
    fn a_name_is_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("<b>'\"&.pth");
        std::fs::write(&path, [0; 1234]).unwrap();
        let link = download_link(&path).unwrap();
        roxmltree::Document::parse(&link.html().replace(" download>", ">")).unwrap();
        assert!(link.to_string().starts_with("<b>'\"&.pth (1.2 kB): "), "{link}");
        let error = download_link(folder.path().join("not there")).unwrap_err();
        assert!(error.to_string().contains("not there"), "{error}");
    }
}
