//! The same clients, where what they ask for is behind the proxy: files of nginx's, and programs
//! in Python.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::{Child, free_port};
use sluicegate_testkit::require;
use tempfile::TempDir;

use crate::apt::{self, Apt};
use crate::common::{PATIENCE, PROGRAM, Served};
use crate::curl::{self, Curl};
use crate::ways::{LARGE, MIDDLE, SMALL};
use crate::{assert_same, assert_whole, cut, pip, program, size, succeed};

/// An upstream, and the program in front of it.
struct Behind {
    served: Served,
    _upstream: Child,
    _directory: TempDir,
}

impl Behind {
    /// nginx with the files beneath `root`.
    fn nginx(root: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Its worker, which need not be root, is to read them.
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {directory}/pid;\nerror_log {directory}/error.log;\n\
             events {{ }}\nhttp {{\n access_log off;\n default_type application/octet-stream;\n\
             client_body_temp_path {directory}/body;\n proxy_temp_path {directory}/proxy;\n\
             fastcgi_temp_path {directory}/fastcgi;\n uwsgi_temp_path {directory}/uwsgi;\n\
             scgi_temp_path {directory}/scgi;\n gzip on;\n gzip_proxied any;\n gzip_min_length 1;\n gzip_types *;\n\
             server {{\n  listen 127.0.0.1:PORT;\n  root {root};\n  absolute_redirect off;\n }}\n}}\n",
            directory = directory.path().display(),
            root = root.display()
        );
        let start = |directory: &Path, port: u16| {
            let path = directory.join("nginx.conf");
            std::fs::write(&path, configuration.replace("PORT", &port.to_string())).unwrap();
            let mut command = program("nginx", directory);
            command.arg("-p").arg(directory).arg("-c").arg(&path);
            command.arg("-e").arg(directory.join("error.log"));
            command
        };
        Self::start(start, directory)
    }

    /// A program in Python, with its port for an argument behind `arguments`.
    fn python(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let start = |directory: &Path, port: u16| {
            let mut command = program("python3", directory);
            command.args(arguments).arg(port.to_string());
            command
        };
        Self::start(start, directory)
    }

    fn start(upstream: impl Fn(&Path, u16) -> Command, directory: TempDir) -> Self {
        // Somebody else may take the port between its choice and its use.
        let (child, port) = (0..5)
            .find_map(|_| {
                let port = free_port().unwrap();
                let mut child = Child::spawn(upstream(directory.path(), port)).unwrap();
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                child.wait_for_port(address, PATIENCE).ok().map(|()| (child, port))
            })
            .expect("an upstream that starts");
        let mut command = Command::new(PROGRAM);
        command.arg("proxy").arg(format!("http://127.0.0.1:{port}"));
        command.args(["--listen", "127.0.0.1:0", "--workers", "2"]);
        Behind { served: Served::by(command), _upstream: child, _directory: directory }
    }

    fn url(&self, path: &str) -> String {
        self.served.url(path)
    }

    fn stop(mut self) {
        self.served.child.terminate().unwrap();
        let status = self.served.child.wait_timeout(PATIENCE).unwrap();
        let output = self.served.child.output();
        assert!(status.success() && !output.contains("panicked"), "{status}: {output}");
    }
}

#[test]
fn curl_downloads_ranges_and_goes_on_with_nginx_behind_the_proxy() {
    require!(Need::Program("curl"), Need::Program("nginx"));
    let (tree, curl) = (curl::tree(), Curl::new());
    let behind = Behind::nginx(tree.path());
    for (name, length) in [("/small", SMALL), ("/middle", MIDDLE), ("/large", LARGE)] {
        let url = behind.url(name);
        for version in ["--http1.1", "--http1.0"] {
            assert_eq!(curl.get(&[version, &url]), format!("200 {length}"));
            assert_whole(&curl.path("out"), curl::SEED, length);
        }
        assert_eq!(curl.get(&["--head", &url]), "200 0");
        assert_eq!(curl.field("Content-Length"), Some(length.to_string()));
        let (start, end) = (length / 3, length / 2);
        let range = format!("{start}-{}", end - 1);
        assert_eq!(curl.get(&["--range", &range, &url]), format!("206 {}", end - start));
        corpus::verify(curl::SEED, start, &curl.content()).unwrap();
        let tag = curl.field("ETag").unwrap();
        let condition = format!("If-None-Match: {tag}");
        assert_eq!(curl.get(&["--header", &condition, &url]), "304 0");
        assert_eq!(
            curl.get(&["--header", "If-Match: \"other\"", &url]).split(' ').next(),
            Some("412")
        );
    }
    // Compressed on the way, so that its length is not known before.
    assert!(curl.get(&["--compressed", &behind.url("/middle")]).starts_with("200 "));
    assert_eq!(curl.field("Content-Encoding"), Some("gzip".to_owned()));
    assert_whole(&curl.path("out"), curl::SEED, MIDDLE);

    assert!(curl.get(&[&behind.url("/large")]).starts_with("200 "));
    cut(&curl.path("out"), LARGE / 3);
    let got = succeed(curl.command(&["--continue-at", "-", &behind.url("/large")]));
    assert_eq!(got.trim(), format!("206 {}", LARGE - LARGE / 3));
    assert_whole(&curl.path("out"), curl::SEED, LARGE);
    assert!(curl.get(&[&behind.url("/none")]).starts_with("404 "));
    // Three on one connection.
    let urls = ["/small", "/middle", "/none"].map(|name| behind.url(name));
    let got = curl.get(&["--next", "--output", "out", &urls[0]]);
    assert!(got.starts_with("200 "), "{got}");
    behind.stop();
}

/// Tells of what it was asked, and how long and of what digest its content was; by WSGI.
const APP: &str = r#"
import hashlib, json, sys
from wsgiref.simple_server import make_server, WSGIRequestHandler

class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass

def app(environ, start_response):
    if environ['PATH_INFO'] == '/stream':
        # No length is known: HTTP/1.0, and its end is the connection's.
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return (b'%09d\n' % number for number in range(200000))
    digest, left = hashlib.sha256(), int(environ.get('CONTENT_LENGTH') or 0)
    length = left
    while left > 0:
        piece = environ['wsgi.input'].read(min(left, 65536))
        if not piece:
            break
        digest.update(piece)
        left -= len(piece)
    told = {key: value for key, value in environ.items() if key.startswith('HTTP_')}
    told.update(left=left, length=length, digest=digest.hexdigest(),
                method=environ['REQUEST_METHOD'], path=environ['PATH_INFO'])
    body = json.dumps(told).encode()
    start_response('200 OK', [('Content-Type', 'application/json'), ('Content-Length', str(len(body)))])
    return [body]

make_server('127.0.0.1', int(sys.argv[1]), app, handler_class=Quiet).serve_forever()
"#;

#[test]
fn curl_uploads_to_a_python_program_behind_the_proxy() {
    require!(Need::Program("curl"), Need::Program("python3"), Need::Program("sha256sum"));
    const LENGTH: u64 = 5_000_000;
    let curl = Curl::new();
    let tree = Tree::new().unwrap().file("upload", 21, LENGTH).unwrap();
    let upload = tree.join("upload");
    let mut sum = program("sha256sum", tree.path());
    sum.arg(&upload);
    let digest = succeed(sum)[..64].to_owned();
    let behind = Behind::python(&["-c", APP]);
    let told = |args: &[&str]| -> serde_json::Value {
        let got = curl.get(args);
        assert!(got.starts_with("200 "), "{args:?}: {got}");
        serde_json::from_slice(&curl.content()).unwrap()
    };
    let (url, file) = (behind.url("/upload"), upload.to_str().unwrap());
    let data = format!("@{file}");
    let uploads: [&[&str]; 4] = [
        &["--upload-file", file],
        &["--data-binary", &data],
        &["--http1.0", "--upload-file", file],
        &["--header", "Expect: 100-continue", "--upload-file", file],
    ];
    for args in uploads {
        let told = told(&[args, &[&url]].concat());
        assert_eq!(told["length"], LENGTH, "{args:?}");
        assert_eq!(told["digest"], *digest, "{args:?}");
    }
    // What variables could be taken for: the program's, and nobody else's.
    let told = told(&[
        "--header",
        "X_Forwarded_For: 203.0.113.1",
        "--header",
        "X-Forwarded-For: 203.0.113.2",
        "--header",
        "Proxy: http://evil.test/",
        &behind.url("/a%20b"),
    ]);
    assert_eq!(told["HTTP_X_FORWARDED_FOR"], "127.0.0.1");
    assert!(told.get("HTTP_PROXY").is_none(), "{told}");
    assert_eq!(told["path"], "/a b");

    let whole: String = (0..200_000).map(|number| format!("{number:09}\n")).collect();
    for version in ["--http1.1", "--http1.0"] {
        assert_eq!(curl.get(&[version, &behind.url("/stream")]), format!("200 {}", whole.len()));
        assert!(curl.content() == whole.as_bytes());
    }
    behind.stop();
}

#[test]
fn pip_installs_from_a_python_server_behind_the_proxy() {
    require!(Need::Program("python3"));
    let home = tempfile::tempdir().unwrap();
    let interpreters = pip::interpreters(home.path());
    require!(Need::Fact { what: "a python3 with pip", holds: !interpreters.is_empty() });
    let tree = pip::index(&interpreters[0], home.path());
    let root = tree.path().to_str().unwrap();
    let behind = Behind::python(&["-m", "http.server", "--bind", "127.0.0.1", "--directory", root]);
    let out = tempfile::tempdir().unwrap();
    let [target, downloads] =
        ["target", "downloads"].map(|name| out.path().join(name).to_str().unwrap().to_owned());
    let pip = |args: &[&str]| succeed(pip::pip(&interpreters[0], home.path(), args));
    let (url, name) = (behind.url("/simple/"), "Sluicegate.Test_Hello");
    pip(&["install", "--index-url", &url, "--target", &target, name]);
    let data = Path::new(&target).join("sluicegate_test_hello/data.bin");
    assert_whole(&data, pip::SEED, pip::LENGTH);
    pip(&["download", "--index-url", &url, "--dest", &downloads, name]);
    let wheel = tree.join("packages").join(pip::WHEEL);
    assert_same(&Path::new(&downloads).join(pip::WHEEL), &wheel);
    behind.stop();
}

#[test]
fn apt_updates_and_downloads_with_nginx_behind_the_proxy() {
    require!(Need::Program("apt-get"), Need::Program("dpkg-deb"), Need::Program("gzip"));
    require!(Need::Program("nginx"));
    let tree = apt::repository();
    let deb = tree.join(apt::DEB);
    let behind = Behind::nginx(tree.path());
    let apt = Apt::new(&behind.url("/"));
    let said = apt.get(&["update"]);
    assert!(
        said.lines().any(|line| line.starts_with("Get:") && line.contains("Packages")),
        "{said}"
    );
    let said = apt.get(&["update"]);
    assert!(said.lines().any(|line| line.starts_with("Hit:")), "{said}");

    // With a part of it that it goes on with.
    let file = std::fs::File::options().write(true).open(&deb).unwrap();
    let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
    file.set_modified(earlier).unwrap();
    let name = Path::new(apt::DEB).file_name().unwrap();
    let partial = apt.path("cache/archives/partial").join(name);
    std::fs::copy(&deb, &partial).unwrap();
    cut(&partial, size(&deb) / 2);
    std::fs::File::options().write(true).open(&partial).unwrap().set_modified(earlier).unwrap();
    apt.get(&["install", "--yes", "--download-only", apt::PACKAGE]);
    assert_same(&apt.path("cache/archives").join(name), &deb);
    behind.stop();
}
