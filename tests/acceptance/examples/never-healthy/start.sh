# More than is kept, so that it shows which lines are.
i=0
while [ $i -lt 300 ]; do
  i=$((i + 1))
  echo "waiting for the database, try $i"
done
exec httpd -f -p 8080 -h /site
