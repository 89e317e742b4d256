# Reads a report in lcov's format and prints every line of a source file that was never run, as
# `file:line: text`. Test modules do not count: by the order of a file they are its end.
BEGIN { FS = "[:,]" }

$1 == "SF" {
  file = $2
  sub(root "/", "", file)
  wanted = file ~ paths && file !~ /(^|\/)(scene|testing|tests)(\.rs$|\/)/
  if (wanted) read(file)
}

wanted && $1 == "DA" && $2 < end {
  lines++
  if ($3 == 0) {
    missed++
    printf "%s:%d: %s\n", file, $2, text[$2]
  }
}

END {
  if (lines == 0) {
    print "nothing was measured"
    exit 1
  }
  printf "%d of %d lines are covered\n", lines - missed, lines
  exit missed > 0
}

# Keeps the lines of a file, up to its tests.
function read(file,    number, line) {
  delete text
  end = 1e9
  while ((getline line < (root "/" file)) > 0) {
    text[++number] = line
    if (line ~ /^mod tests \{/ && text[number - 1] == "#[cfg(test)]") end = number
  }
  close(root "/" file)
}
