# A table of TOML with its heading.
function barkeep::table(String[1] $heading, Hash $settings) >> String {
  $lines = $settings.map |$name, $value| { "${barkeep::key($name)} = ${barkeep::toml($value)}\n" }
  "\n[${heading}]\n${$lines.join('')}"
}
