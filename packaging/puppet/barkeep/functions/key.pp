# A key as TOML writes it: bare where it may be.
function barkeep::key(String[1] $name) >> String {
  $name ? {
    /\A[A-Za-z0-9_-]+\z/ => $name,
    default              => "\"${barkeep::escape($name)}\"",
  }
}
