# The same over nvmet-tcp.
TRANSPORT=tcp . ./loop.sh
