// Uppy Companion in an Express application, as its documentation mounts it, without log lines and metrics.
import * as companion from '@uppy/companion'
import express from 'express'

import { cluster } from './cluster.js'

cluster((port) => {
  const env = process.env
  const app = express()
  const { app: handler } = companion.app({
    s3: {
      endpoint: env.S3_ENDPOINT,
      bucket: env.S3_BUCKET,
      region: 'us-east-1',
      key: env.AWS_ACCESS_KEY_ID,
      secret: env.AWS_SECRET_ACCESS_KEY,
      forcePathStyle: true,
    },
    server: { host: `127.0.0.1:${port}`, protocol: 'http' },
    filePath: env.FOLDER,
    secret: 'a secret of the benchmark',
    uploadUrls: [env.S3_ENDPOINT],
    corsOrigins: true,
    metrics: false,
  })
  app.use(handler)
  app.listen(port, '127.0.0.1')
})
