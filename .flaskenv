# Read by `flask` and `make run` on a dev box, never by gunicorn. The environment and a file .env go before it.
FLASK_APP=app
S3_ENDPOINT=http://127.0.0.1:8333
S3_BUCKET=tracks
AWS_ACCESS_KEY_ID=loadbay
AWS_SECRET_ACCESS_KEY=loadbay-secret
DATABASE_URL=sqlite:///.data/loadbay.db
ALLOW_ANONYMOUS=1
CREATE_MISSING=1
BUILT_ASSETS=0
