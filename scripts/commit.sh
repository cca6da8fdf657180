#!/bin/sh
# commit.sh FOLDER SWIFT - write the commit that is checked out in FOLDER into a Swift source. It is nil in an archive, which
# has no .git; a clone is read without git, too.
set -e
git=$1/.git
commit=
# Only FOLDER's own: an archive may lie in somebody else's clone.
if [ -e "$git" ]; then commit=$(git -c safe.directory='*' -C "$1" rev-parse HEAD 2>/dev/null) || commit=; fi
if [ -z "$commit" ] && [ -f "$git/HEAD" ]; then
  read -r commit <"$git/HEAD"
  case $commit in
    'ref: '*)
      ref=${commit#ref: }
      commit=$(cat "$git/$ref" 2>/dev/null || sed -n "s|^\([0-9a-f]*\) $ref\$|\1|p" "$git/packed-refs" 2>/dev/null) || commit=
      ;;
  esac
fi
commit=$(printf %s "$commit" | tr -cd 0-9a-f | cut -c 1-12)
{
  echo "/// Of the sources that were built; nil if they were no clone."
  if [ -n "$commit" ]; then echo "let builtCommit: String? = \"$commit\""; else echo "let builtCommit: String? = nil"; fi
} >"$2"
