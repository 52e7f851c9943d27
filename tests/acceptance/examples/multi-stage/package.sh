set -e
mkdir out
cp site/index.html out/
echo "packaged" > out/how.txt
