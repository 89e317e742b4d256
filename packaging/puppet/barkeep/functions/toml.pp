# A value as TOML writes it.
function barkeep::toml(Variant[Boolean, Numeric, String, Array, Hash] $value) >> String {
  $value ? {
    Boolean => String($value),
    Numeric => String($value),
    String  => "\"${barkeep::escape($value)}\"",
    Array   => "[${$value.map |$one| { barkeep::toml($one) }.join(', ')}]",
    Hash    => "{ ${$value.map |$name, $one| { "${barkeep::key($name)} = ${barkeep::toml($one)}" }.join(', ')} }",
  }
}
