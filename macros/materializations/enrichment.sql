{% materialization enrichment, adapter='duckdb', supported_languages=['sql'] %}

  {%- set existing_relation = load_cached_relation(this) -%}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set intermediate_relation = make_intermediate_relation(target_relation) -%}
  {%- set preexisting_intermediate_relation = load_cached_relation(intermediate_relation) -%}
  {%- set backup_relation_type = 'table' if existing_relation is none else existing_relation.type -%}
  {%- set backup_relation = make_backup_relation(target_relation, backup_relation_type) -%}
  {%- set preexisting_backup_relation = load_cached_relation(backup_relation) -%}
  {%- set grant_config = config.get('grants') -%}

  {% if dbt_enrich._is_unplanned(target_relation) %}
    {{ return({'relations': []}) }}
  {% endif %}

  {{ drop_relation_if_exists(preexisting_intermediate_relation) }}
  {{ drop_relation_if_exists(preexisting_backup_relation) }}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {#- A transaction writes to one database alone, and rows are not staged in the target's. -#}
  {% if pre_hooks | selectattr('transaction', 'equalto', true) | list %}
    {{ adapter.commit() }}
  {% endif %}
  {%- set staged = dbt_enrich._call_plugin('open', target_relation, {
    'database': target_relation.database,
    'schema': target_relation.schema,
    'identifier': target_relation.identifier,
  }) -%}
  {% call statement('stage') -%}
    create or replace table {{ staged }} as (
      {{ compiled_code }}
    )
  {%- endcall %}
  {#- The plugin works on a connection of its own, which sees only what is committed. -#}
  {{ adapter.commit() }}

  {%- set request = dbt_enrich._model_request(target_relation, staged, existing_relation) -%}
  {%- set outcome = dbt_enrich._call_plugin('enrich', target_relation, request) -%}

  {% if outcome.merges %}
    {%- set unique_key = config.require('unique_key') -%}
    {%- set errors_relation = dbt_enrich._errors_relation(target_relation) -%}
    {% call statement('merged_rows') -%}
      {{ create_table_as(False, intermediate_relation, outcome.enriched_sql) }}
    {%- endcall %}
    {% call statement('errors') -%}
      {{ dbt_enrich._replace_errors(errors_relation, intermediate_relation, unique_key, outcome.errors_sql) }}
    {%- endcall %}
    {% call statement('main') -%}
      {{ dbt_enrich._merge_into(target_relation, intermediate_relation, unique_key) }}
    {%- endcall %}
    {{ drop_relation_if_exists(intermediate_relation) }}
  {% elif outcome.replaces or existing_relation is none %}
    {% call statement('main') -%}
      {{ create_table_as(False, intermediate_relation, outcome.enriched_sql) }}
    {%- endcall %}
    {% call statement('errors') -%}
      create or replace table {{ dbt_enrich._errors_relation(target_relation) }} as (
        {{ outcome.errors_sql }}
      )
    {%- endcall %}
    {% if existing_relation is not none %}
      {% do drop_indexes_on_relation(existing_relation) %}
      {{ adapter.rename_relation(existing_relation, backup_relation) }}
    {% endif %}
    {{ adapter.rename_relation(intermediate_relation, target_relation) }}
    {% do create_indexes(target_relation) %}
  {% else %}
    {#- plan and preview leave an existing table alone. -#}
    {% call statement('main') -%}
      select 1
    {%- endcall %}
  {% endif %}

  {{ run_hooks(post_hooks, inside_transaction=True) }}

  {% set should_revoke = should_revoke(existing_relation, full_refresh_mode=not outcome.merges) %}
  {% do apply_grants(target_relation, grant_config, should_revoke=should_revoke) %}
  {% do persist_docs(target_relation, model) %}
  {% if outcome.comment and (outcome.replaces or existing_relation is none) %}
    {% do dbt_enrich._comment_on(target_relation, outcome.comment) %}
  {% endif %}

  {{ adapter.commit() }}

  {{ drop_relation_if_exists(backup_relation) }}
  {% do dbt_enrich._call_plugin('finish', target_relation, {
    'run_id': outcome.run_id,
    'staged': staged,
  }) %}
  {{ log(outcome.summary, info=true) }}

  {{ run_hooks(post_hooks, inside_transaction=False) }}

  {{ return({'relations': [target_relation]}) }}

{% endmaterialization %}
