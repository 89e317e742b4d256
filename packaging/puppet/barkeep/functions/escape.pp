# What a basic string of TOML may not have as it is.
function barkeep::escape(String $text) >> String {
  $text.regsubst('\\\\', '\\\\\\\\', 'G').regsubst('"', '\\\\"', 'G').regsubst("\n", '\\n', 'G').regsubst("\t", '\\t', 'G')
}
