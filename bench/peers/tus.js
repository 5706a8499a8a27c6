// @tus/server as its documentation sets it up, with the data store that STORE names: file or s3.
import { FileStore } from '@tus/file-store'
import { S3Store } from '@tus/s3-store'
import { Server } from '@tus/server'

import { cluster } from './cluster.js'

cluster((port) => {
  const env = process.env
  const datastore =
    env.STORE === 'file'
      ? new FileStore({ directory: env.FOLDER })
      : new S3Store({
          s3ClientConfig: {
            bucket: env.S3_BUCKET,
            endpoint: env.S3_ENDPOINT,
            region: 'us-east-1',
            forcePathStyle: true,
            credentials: { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY },
          },
        })
  new Server({ path: '/files', datastore }).listen({ port, host: '127.0.0.1' })
})
